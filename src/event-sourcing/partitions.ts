import { checkInteger, checkMethods } from '../kernel/check.js'
import type { Clock } from '../kernel/clock.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { ClosedError, InvalidOptionError, isUncertainError } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import { reportError } from '../kernel/report.js'
import type { Checkpoints } from './checkpoints.js'
import type { Event } from './event.js'
import { Members } from './members.js'
import type { Runner } from './runner.js'
import type { Partitions, Subscription, SubscriptionEvents } from './subscription.js'

/** What says into how many parts a name is cut. */
export const countName = (name: string): string => `${name}#partitions`

/** The partition of an event: a hash of its key (FNV-1a over UTF-16 units), so that it is the same in every process. */
export function partitionOf(key: string, count: number): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  return (hash >>> 0) % count
}

/** `partitions` as given. @throws InvalidOptionError. */
export function checkPartitions<E extends Event>(partitions: Partitions<E>): Partitions<E> {
  checkInteger('partitions.count', checkMethods('partitions', partitions, ['by']).count, 1, 1_024)
  return partitions
}

/** Where the parts of one subscription begin. */
export interface PartitionedWork<E extends Event, Tx> {
  readonly name: string
  readonly checkpoints: Checkpoints<Tx>
  readonly count: number
  readonly leaseMs: number
  readonly clock: Clock
  head(): Promise<number>
  /** Where a new name begins. */
  first(signal: AbortSignal): Promise<number>
  start(name: string, has: (key: string) => boolean): Runner<E, Tx>
}

/**
 * One subscription in parts, shared out among processes: each part is a subscription of its own, and a process takes as many
 * of them as are its share. What it has above that, it gives back when the event under way is handled.
 */
export class PartitionedSubscription<E extends Event, Tx> implements Subscription {
  readonly name: string
  readonly #owner = randomId()
  readonly #runners: readonly Runner<E, Tx>[]
  readonly #members: Members
  readonly #events = new Emitter<SubscriptionEvents>()
  readonly #stopping = new AbortController()
  readonly #ended: Promise<void>
  #over: 'stopped' | 'failed' | undefined
  #failure: { readonly error: unknown } | undefined

  constructor(private readonly work: PartitionedWork<E, Tx>) {
    const { name, count, checkpoints, clock, leaseMs } = work
    this.name = name
    this.#members = new Members({ name, count, checkpoints, clock, leaseMs, owner: this.#owner })
    this.#runners = Array.from({ length: count }, (_, i) => {
      const runner = work.start(`${name}#${i}`, (key) => partitionOf(key, count) === i)
      runner.on('error', (event) => this.#events.emit('error', event))
      runner.on('parked', (event) => this.#events.emit('parked', event))
      runner.on('failed', ({ error }) => this.#fail(error))
      return runner
    })
    this.#ended = this.#run()
  }

  get position(): number {
    return Math.min(...this.#runners.map(({ position }) => position))
  }

  get state(): Subscription['state'] {
    if (this.#over) return this.#over
    const states = new Set(this.#runners.map(({ state }) => state))
    return states.has('catching-up') ? 'catching-up' : states.has('live') ? 'live' : 'standby'
  }

  on<K extends keyof SubscriptionEvents>(name: K, listener: (event: SubscriptionEvents[K]) => unknown): Unsubscribe {
    return this.#events.on(name, listener)
  }

  async lag(): Promise<number> {
    return Math.max(0, (await this.work.head()) - this.position)
  }

  async reached(position: number, timeoutMs?: number): Promise<void> {
    try {
      await Promise.all(this.#runners.map((runner) => runner.reached(position, timeoutMs)))
    } catch (error) {
      if (!this.#failure) throw error
      throw new ClosedError(`subscription ${this.name} has failed`, undefined, { cause: this.#failure.error })
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#ended
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #run(): Promise<void> {
    const { clock, leaseMs } = this.work
    let agreed = false
    let content = false
    while (!this.#stopping.signal.aborted) {
      try {
        // oxlint-disable no-await-in-loop -- one look after the other
        agreed ||= await this.#agree()
        if (agreed) content = await this.#take(await this.#members.share())
      } catch (error) {
        if (isUncertainError(error)) this.#events.emit('error', { error, attempt: 1 })
        else this.#fail(error)
      }
      await this.#pause(clock, agreed && content ? leaseMs / 4 : leaseMs / 10)
      // oxlint-enable no-await-in-loop
    }
    await Promise.all(this.#runners.map((runner) => runner.stop()))
    await this.#members.leave().catch(() => {}) // then the others see it when the lease runs out
    this.#over = this.#failure ? 'failed' : 'stopped'
    if (!this.#failure) return
    if (this.#events.has('failed')) this.#events.emit('failed', this.#failure)
    else reportError(this.#failure.error)
  }

  /** Waits without keeping the process alive. */
  #pause(clock: Clock, ms: number): Promise<void> {
    const { signal } = this.#stopping
    return new Promise((resolve) => {
      const cancel = clock.setTimer(done, ms)
      signal.addEventListener('abort', done)
      function done(): void {
        cancel()
        signal.removeEventListener('abort', done)
        resolve()
      }
      if (signal.aborted) done()
    })
  }

  /** @throws InvalidOptionError when the name runs already in another number of parts, or whole. */
  async #agree(): Promise<boolean> {
    const { checkpoints, name, count, leaseMs } = this.work
    const known = await checkpoints.position(countName(name))
    if (known === count) return true
    if (known !== undefined)
      throw new InvalidOptionError(
        `partitions.count: subscription ${name} runs in ${known} partitions, not ${count}; another number needs another name`,
      )
    if ((await checkpoints.position(name)) !== undefined)
      throw new InvalidOptionError(`partitions: subscription ${name} has run without; partitions need another name`)
    const lease = await checkpoints.acquire(countName(name), this.#owner, leaseMs)
    if (!lease) return false
    const isNew = lease.position === undefined && (await this.#begin())
    if (isNew) await checkpoints.commit(countName(name), lease.epoch, undefined, count, async () => {})
    await checkpoints.release(countName(name), lease.epoch)
    return isNew
  }

  /** All parts at one position: what comes before the last of them finds somebody to work on it is not passed by. */
  async #begin(): Promise<boolean> {
    const { checkpoints, leaseMs } = this.work
    const position = await this.work.first(this.#stopping.signal)
    for (const { name } of this.#runners) {
      // oxlint-disable no-await-in-loop -- one after the other: it is done once
      const lease = await checkpoints.acquire(name, this.#owner, leaseMs)
      if (!lease) return false // of somebody who died while doing this: again when it has run out
      if (lease.position === undefined) await checkpoints.commit(name, lease.epoch, undefined, position, async () => {})
      await checkpoints.release(name, lease.epoch)
      // oxlint-enable no-await-in-loop
    }
    return true
  }

  /** Gives back what is above the share, takes what is free below it. @returns whether it has its share */
  async #take(share: number): Promise<boolean> {
    const { checkpoints, leaseMs } = this.work
    const held = this.#runners.filter(({ owns }) => owns)
    for (const runner of held.slice(share)) runner.standDown()
    let missing = share - held.length
    for (const runner of this.#runners) {
      if (missing <= 0) return true
      if (runner.owns || this.#stopping.signal.aborted) continue
      // oxlint-disable-next-line no-await-in-loop -- no more than the share
      const lease = await checkpoints.acquire(runner.name, runner.owner, leaseMs)
      if (!lease) continue
      runner.admit(lease)
      missing--
    }
    return missing <= 0
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#stopping.abort()
  }
}
