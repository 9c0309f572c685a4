import type { Backoff } from '../kernel/backoff.js'
import { checkFunction, checkNumber, checkPositive } from '../kernel/check.js'
import { systemClock } from '../kernel/clock.js'
import { familyOf, isHoldfastError, TimeoutError } from '../kernel/errors.js'
import { systemRandom } from '../kernel/random.js'
import { reportError } from '../kernel/report.js'
import type { Message } from './message.js'
import type { RelayOptions } from './postgres-relay-options.js'
import type { Item, Owned } from './postgres-relay-window.js'
import { openMessage } from './stored-message.js'

/** What a publisher needs of its relay. */
export interface PublisherPort {
  publish(messages: readonly Message[]): Promise<void>
  /** Sets it aside for good. */
  park(item: Item, error: unknown): Promise<void>
  holds(owned: Owned): boolean
  /** The bus has taken them. */
  published(items: readonly Item[]): void
  failed(what: 'publish' | 'park', error: unknown, retryInMs: number): void
}

/** The longest that one call may take, in times of the limit of the first. */
const MOST_LIMITS = 16

const usualBackoff: Backoff = (attempt) => Math.min(5_000, 100 * 2 ** (attempt - 1))
const isForGood = (error: unknown): boolean =>
  (familyOf(error) === 'invalid' && !isHoldfastError(error, 'NOT_FOUND')) ||
  isHoldfastError(error, 'UNROUTED') ||
  isHoldfastError(error, 'CORRUPT_DATA')

/** Brings one batch at a time to the bus, as often as it takes. @internal */
export class RelayPublisher {
  readonly #timeoutMs: number
  readonly #backoff: Backoff
  readonly #parkOn: (error: unknown) => boolean
  #isClosing = false
  #endWait = (): void => {}

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor(
    private readonly port: PublisherPort,
    { publishTimeoutMs, backoff = usualBackoff, parkOn = isForGood }: RelayOptions,
  ) {
    this.#timeoutMs = checkPositive('publishTimeoutMs', publishTimeoutMs)
    this.#backoff = checkFunction('backoff', backoff)
    this.#parkOn = checkFunction('parkOn', parkOn)
  }

  /** Begins nothing any more. */
  close(): void {
    this.#isClosing = true
    this.#endWait()
  }

  /** Until they are published or parked, but for those whose partition is no longer ours. @returns `false` when it closes before that */
  async publish(batch: readonly Item[]): Promise<boolean> {
    const calls = new Calls(this.#timeoutMs)
    let previousMs: number | undefined
    for (let attempt = 1; ; attempt++) {
      const items = batch.filter(({ commit }) => this.port.holds(commit.owned))
      const [first] = items
      if (!first) return true
      if (this.#isClosing && !calls.isTaken) return false
      // oxlint-disable-next-line no-await-in-loop -- again only when it failed
      const answer = await calls.make(async () => this.port.publish(items.map(({ stored }) => openMessage(stored))))
      if (answer.kind === 'taken') {
        this.port.published(items)
        return true
      }
      let thrown = answer.error
      let what: 'publish' | 'park' = 'publish'
      const forGood = answer.kind === 'refused' && this.#isForGood(thrown)
      // Which of them it will never take, and how many there is room for, shows in smaller parts.
      if (items.length > 1 && (forGood || isHoldfastError(thrown, 'BACKLOG_FULL'))) {
        const half = items.length >> 1
        // oxlint-disable-next-line no-await-in-loop -- in order
        return (await this.publish(items.slice(0, half))) && this.publish(items.slice(half))
      }
      if (forGood) {
        try {
          // oxlint-disable-next-line no-await-in-loop
          await this.port.park(first, thrown)
          return true
        } catch (error) {
          thrown = error
          what = 'park'
        }
      }
      previousMs = this.#waitMs(attempt, thrown, previousMs)
      this.port.failed(what, thrown, previousMs)
      if (this.#isClosing) return false
      // oxlint-disable-next-line no-await-in-loop
      await this.#wait(previousMs, calls)
    }
  }

  #isForGood(error: unknown): boolean {
    try {
      return this.#parkOn(error)
    } catch (thrown) {
      reportError(thrown)
      return false
    }
  }

  #waitMs(attempt: number, error: unknown, previousMs: number | undefined): number {
    const least = (error as { retryAfterMs?: unknown } | null)?.retryAfterMs
    const context = { previousMs, random: systemRandom }
    let ms: number
    try {
      ms = checkNumber('the result of backoff', this.#backoff(attempt, error, context), 0)
    } catch (thrown) {
      reportError(thrown)
      ms = usualBackoff(attempt, error, context)
    }
    return typeof least === 'number' ? Math.max(ms, least) : ms
  }

  /** Until the next call; closing ends it, and an earlier call that succeeds late. */
  #wait(ms: number, calls: Calls): Promise<void> {
    return new Promise((resolve) => {
      const cancel = systemClock.setTimer(resolve, ms)
      this.#endWait = () => {
        cancel()
        resolve()
      }
      calls.whenTaken(this.#endWait)
    })
  }
}

/** How one call ended, or that its time is over: then it may still succeed. */
type Answer = { readonly kind: 'taken' } | { readonly kind: 'refused' | 'late'; readonly error: unknown }

/**
 * The calls of the bus for one batch. The first that succeeds counts, also one whose time was over: so a bus that is slower than the limit
 * gets on, and one that stands still is not given more and more copies to work off.
 */
class Calls {
  #limitMs: number
  readonly #longestMs: number
  #isTaken = false
  #onTaken = (): void => {}

  constructor(limitMs: number) {
    this.#limitMs = limitMs
    this.#longestMs = limitMs * MOST_LIMITS
  }

  /** Whether one has succeeded. */
  get isTaken(): boolean {
    return this.#isTaken
  }

  /** Calls `listener`, and none that was given before, when one succeeds. */
  whenTaken(listener: () => void): void {
    this.#onTaken = listener
    if (this.#isTaken) listener()
  }

  /** Calls once more, unless an earlier one has succeeded. Never rejects. */
  make(publish: () => Promise<void>): Promise<Answer> {
    const limitMs = this.#limitMs
    this.#limitMs = Math.min(this.#longestMs, limitMs * 2)
    if (this.#isTaken) return Promise.resolve({ kind: 'taken' })
    return new Promise((resolve) => {
      const late = (): void =>
        resolve({ kind: 'late', error: new TimeoutError(`publish took longer than ${limitMs} ms`, limitMs) })
      const cancel = systemClock.setTimer(late, limitMs)
      const end = (answer: Answer): void => {
        cancel()
        resolve(answer)
      }
      this.whenTaken(() => end({ kind: 'taken' }))
      publish().then(
        () => {
          this.#isTaken = true
          this.#onTaken()
        },
        (error: unknown) => end({ kind: 'refused', error }),
      )
    })
  }
}
