import { checkInteger, checkNumber, checkObject, checkOneOf, checkPositive } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { ClosedError, isHoldfastError, isUncertainError } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import { reportError } from '../kernel/report.js'
import type { Checkpoints, SubscriptionLease } from './checkpoints.js'
import type { Course, Step } from './course.js'
import { Doorbell, Patience } from './doorbell.js'
import { FencedError } from './errors.js'
import type { Event } from './event.js'
import { checkFrom, firstPosition, type From } from './from.js'
import { Progress } from './progress.js'
import { checkQuery } from './query.js'
import type { EventStore, Query } from './store.js'
import type { Subscription, SubscriptionEvents, SubscriptionOptions } from './subscription.js'

const FIRST_RETRY_MS = 100
const LONGEST_RETRY_MS = 5_000

/** A lease as a course is given it. */
export interface Held {
  /** Under which it commits. */
  readonly epoch: number
  /** What is committed so far. */
  readonly position: number
  /** Aborts when the work should stop. */
  readonly signal: AbortSignal
}

/** What a runner works on. */
export interface Work<E extends Event> {
  /** Where the events come from. */
  readonly store: EventStore<E>
  /** Of the checkpoint. */
  readonly name: string
  /** Done once, before the first look. What is uncertain is tried again; any other error ends the subscription. */
  prepare?(): Promise<void>
  /** Checked before a name without a checkpoint begins. */
  begin?(): Promise<void>
  /** Whether it takes no lease by itself, but is given it: {@link Runner.admit}. */
  readonly admitted?: boolean | undefined
  /** Called with every new lease. */
  course(held: Held): Promise<Course<E>> | Course<E>
}

/** Whoever holds the lease works, the others stand by: the loop of every subscription. */
export class Runner<E extends Event, Tx> implements Subscription {
  readonly name: string
  /** Under which it holds leases. */
  readonly owner = randomId()
  readonly #from: From
  readonly #query: Query | undefined
  readonly #leaseMs: number
  readonly #attempts: number
  readonly #giveUp: 'stop' | 'park'
  readonly #clock: Clock
  readonly #bell: Doorbell
  readonly #patience: Patience
  readonly #events = new Emitter<SubscriptionEvents>()
  readonly #progress: Progress
  readonly #stopping = new AbortController()
  readonly #ended: Promise<void>
  #state: Subscription['state'] = 'standby'
  #admission: SubscriptionLease | undefined
  #owning: AbortController | undefined
  /** What has ended it. */
  #failure: { readonly error: unknown } | undefined

  constructor(
    private readonly work: Work<E>,
    private readonly checkpoints: Checkpoints<Tx>,
    {
      from = 'start',
      query,
      batch = 1,
      leaseMs = 10_000,
      retry = {},
      pollMs = 500,
      clock = systemClock,
    }: SubscriptionOptions,
  ) {
    this.name = work.name
    const { attempts = 5, giveUp = 'stop' } = checkObject('retry', retry)
    this.#from = checkFrom(from)
    this.#query = checkQuery(query)
    checkInteger('batch', batch, 1)
    this.#leaseMs = checkPositive('leaseMs', leaseMs)
    this.#attempts = checkInteger('retry.attempts', attempts, 1)
    this.#giveUp = checkOneOf('retry.giveUp', giveUp, ['stop', 'park'])
    this.#clock = clock
    this.#bell = new Doorbell(clock)
    this.#progress = new Progress(clock)
    this.#patience = new Patience(checkPositive('pollMs', pollMs))
    this.#ended = this.#run(work.store.wake(this.#bell.ring))
  }

  get position(): number {
    return this.#progress.position
  }

  get state(): Subscription['state'] {
    return this.#state
  }

  on<K extends keyof SubscriptionEvents>(name: K, listener: (event: SubscriptionEvents[K]) => unknown): Unsubscribe {
    return this.#events.on(name, listener)
  }

  async lag(): Promise<number> {
    const { head } = await this.work.store.readPage({ after: this.position, limit: 1, query: this.#query })
    return Math.max(0, head - this.position)
  }

  async reached(position: number, timeoutMs: number = Infinity): Promise<void> {
    checkInteger('position', position, 0)
    checkNumber('timeoutMs', timeoutMs, 0)
    const ended = this.#state === 'stopped' || this.#state === 'failed'
    if (ended && this.position < position) throw this.#closed()
    const reached = this.#progress.reach(position, timeoutMs)
    this.#bell.ring()
    return reached
  }

  /** Whether it holds the lease. */
  get owns(): boolean {
    return this.#owning !== undefined || this.#admission !== undefined
  }

  /** Gives it a lease that was taken in its name. */
  admit(lease: SubscriptionLease): void {
    this.#admission = lease
    this.#bell.ring()
  }

  /** Gives the lease back when the event under way is handled. */
  standDown(): void {
    this.#admission = undefined // then it runs out
    this.#owning?.abort(new FencedError(this.name))
    this.#bell.ring()
  }

  /** Makes it look at once. */
  wake(): void {
    this.#bell.ring()
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new ClosedError(`subscription ${this.name} was stopped`))
    this.#bell.ring()
    await this.#ended
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #run(stopListening: Unsubscribe): Promise<void> {
    let prepared = false
    while (!this.#stopping.signal.aborted && !this.#failure) {
      this.#bell.reset()
      try {
        // oxlint-disable-next-line no-await-in-loop -- before the first look
        if (!prepared) await this.work.prepare?.()
        prepared = true
        // oxlint-disable-next-line no-await-in-loop -- one look after the other
        await this.#look()
      } catch (error) {
        if (isHoldfastError(error, 'FENCED')) continue // another owner has taken over: stand by
        if (isHoldfastError(error, 'CLOSED')) break // the store was closed
        if (!isUncertainError(error)) this.#failure = { error }
        else {
          this.#events.emit('error', { error, attempt: 1 })
          await this.#wait(this.#patience.next())
        }
      }
    }
    stopListening()
    this.#state = this.#failure ? 'failed' : 'stopped'
    this.#progress.end(this.#closed())
    if (!this.#failure) return
    if (this.#events.has('failed')) this.#events.emit('failed', this.#failure)
    else reportError(this.#failure.error)
  }

  /** Takes the lease and works until it is lost or given back; waits a little when another has it. */
  async #look(): Promise<void> {
    const lease = this.work.admitted
      ? this.#admission
      : await this.checkpoints.acquire(this.name, this.owner, this.#leaseMs)
    if (lease) return this.#own(lease)
    this.#state = 'standby'
    this.#progress.moveTo((await this.checkpoints.position(this.name)) ?? 0)
    await this.#wait(Math.min(this.#patience.next(), this.#leaseMs / 3))
  }

  async #own(lease: SubscriptionLease): Promise<void> {
    const owning = new AbortController()
    this.#owning = owning
    this.#admission = undefined
    const stop = (): void => owning.abort(this.#stopping.signal.reason)
    this.#stopping.signal.addEventListener('abort', stop)
    if (this.#stopping.signal.aborted) stop()
    const stopRenewing = this.#renew(lease.epoch, owning)
    try {
      this.#state = 'catching-up'
      const position = lease.position ?? (await this.#begin(lease.epoch))
      this.#progress.moveTo(position)
      await this.#work(await this.work.course({ epoch: lease.epoch, position, signal: owning.signal }), owning.signal)
    } finally {
      await stopRenewing()
      this.#stopping.signal.removeEventListener('abort', stop)
      await this.checkpoints.release(this.name, lease.epoch).catch(() => {}) // then the lease runs out
      this.#owning = undefined // only now may it be given a lease again
    }
  }

  async #work(course: Course<E>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#failure) {
      this.#bell.reset()
      // oxlint-disable-next-line no-await-in-loop -- one page after the other
      const step = await course.step()
      this.#progress.moveTo(course.position)
      if (step.kind === 'idle') {
        this.#state = 'live'
        await this.#wait(this.#patience.next())
      } else {
        this.#patience.reset()
        if (step.kind === 'split') this.#events.emit('error', { error: step.error, attempt: 1 })
        if (step.kind === 'failed') await this.#failed(course, step, signal)
      }
      if (course.position < step.head) this.#state = 'catching-up'
    }
  }

  async #failed(
    course: Course<E>,
    { event, error, attempt }: Step<E> & { kind: 'failed' },
    signal: AbortSignal,
  ): Promise<void> {
    this.#events.emit('error', { error, event, attempt })
    if (attempt < this.#attempts) {
      const waitMs = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (attempt - 1))
      await this.#clock.sleep(waitMs, signal).catch(() => {}) // aborted: the caller sees it
    } else if (this.#giveUp === 'park') {
      this.#events.emit('parked', await course.park(event, attempt, error))
      this.#progress.moveTo(course.position)
    } else {
      this.#failure = { error }
    }
  }

  /**
   * Keeps the lease for as long as the work goes on; aborts it when the lease is lost.
   * @returns ends that; resolves when no renewal is under way, which would take the lease again after its release
   */
  #renew(epoch: number, owning: AbortController): () => Promise<void> {
    let heldAt = this.#clock.now()
    let ended = false
    let renewing = Promise.resolve()
    const lost = (): void => {
      owning.abort(new FencedError(this.name))
      this.#bell.ring()
    }
    const renew = async (): Promise<void> => {
      const askedAt = this.#clock.now()
      try {
        const lease = await this.checkpoints.acquire(this.name, this.owner, this.#leaseMs)
        if (lease?.epoch !== epoch) return lost()
        heldAt = askedAt
      } catch (error) {
        this.#events.emit('error', { error, attempt: 1 })
        if (askedAt - heldAt >= this.#leaseMs) return lost()
      }
      if (!ended) cancel = arm()
    }
    const arm = (): (() => void) => this.#clock.setTimer(() => void (renewing = renew()), this.#leaseMs / 3)
    let cancel = arm()
    return () => {
      ended = true
      cancel()
      return renewing
    }
  }

  /** Sets the checkpoint of a new name. */
  async #begin(epoch: number): Promise<number> {
    await this.work.begin?.()
    const position = await firstPosition(this.work.store, this.#from, this.#stopping.signal)
    await this.checkpoints.commit(this.name, epoch, undefined, position, async () => {})
    return position
  }

  /** Keeps the process alive only if somebody waits for a position. */
  #wait(ms: number): Promise<void> {
    return this.#bell.wait(ms, this.#progress.awaited)
  }

  #closed(): ClosedError {
    return new ClosedError(`subscription ${this.name} has ${this.#state}`, undefined, { cause: this.#failure?.error })
  }
}
