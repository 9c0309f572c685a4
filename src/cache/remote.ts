import type { Clock } from '../kernel/clock.js'
import { checkEntries, checkState } from './answers.js'
import type { CacheStore, StoredEntry } from './store.js'

/** What is left of the time that one call may wait for the second level. */
export interface Budget {
  leftMs: number
}

/** First and longest pause before the second level is tried again; doubled after each failed try. */
const MIN_PAUSE_MS = 100
const MAX_PAUSE_MS = 1_000

/** Part of the budget that is left in any case after an answer. */
const MOMENT_RATIO = 0.1

interface Batch {
  readonly keys: Map<string, number>
  readonly entries: Promise<readonly (StoredEntry | undefined)[] | undefined>
}

/**
 * The second level behind bounded waiting. One failure or timeout takes it out of use: then no call waits for it at all, and a
 * probe of our own finds out when it is back. Reads made in one tick travel together.
 */
export class Remote {
  #out = false
  #closed = false
  #pauseMs = MIN_PAUSE_MS
  #batch: Batch | undefined
  #cancelProbe = (): void => {}

  /**
   * @param failed told when it goes out of use
   * @param recovered told when it is in use again
   */
  constructor(
    private readonly store: CacheStore,
    private readonly clock: Clock,
    private readonly timeoutMs: number,
    private readonly failed: (operation: string, error: unknown) => void,
    private readonly recovered: () => void,
  ) {}

  /** Whether it is in use. */
  get available(): boolean {
    return !this.#out
  }

  /** The full time that a call may wait. */
  budget(): Budget {
    return { leftMs: this.timeoutMs }
  }

  /**
   * What `run` brings; `undefined` when it failed, was too slow, or was not tried. Never rejects.
   * @param run is told how many milliseconds are waited for it
   * @param late gets a result that came when nobody waited any more
   */
  async call<T>(
    operation: string,
    run: (store: CacheStore, waitMs: number) => Promise<T>,
    budget: Budget,
    late?: (result: T) => void,
  ): Promise<T | undefined> {
    if (this.#out || this.#closed || budget.leftMs <= 0) return undefined
    const began = this.clock.now()
    const waitMs = Math.min(budget.leftMs, this.timeoutMs)
    const outcome = await this.#attempt((store) => run(store, waitMs), waitMs, true, late)
    this.spend(budget, began, 'value' in outcome)
    if ('value' in outcome) return outcome.value
    // Too slow for what this call had left is not yet too slow for everyone.
    if (outcome.error !== TOO_SLOW || waitMs >= this.timeoutMs) this.#trip(operation, outcome.error)
    return undefined
  }

  /**
   * Takes the time since `began` off a budget. A store that did answer may be asked once more, for a moment: the time may have
   * gone to this process's own event loop, and then the next answer is at once there too.
   */
  spend(budget: Budget, began: number, answered: boolean): void {
    const leftMs = budget.leftMs - (this.clock.now() - began)
    budget.leftMs = answered ? Math.max(leftMs, this.timeoutMs * MOMENT_RATIO) : leftMs
  }

  /** The entries of `keys`, in that order; `undefined` when they can't be told. */
  async read(keys: readonly string[], budget: Budget): Promise<readonly (StoredEntry | undefined)[] | undefined> {
    if (this.#out || budget.leftMs <= 0) return undefined
    const began = this.clock.now()
    const batch = (this.#batch ??= this.#open())
    const places = keys.map((key) => {
      const place = batch.keys.get(key) ?? batch.keys.size
      batch.keys.set(key, place)
      return place
    })
    const whole = budget.leftMs >= this.timeoutMs // the batch keeps that limit itself
    const outcome = whole
      ? { value: await batch.entries }
      : await this.#attempt(() => batch.entries, budget.leftMs, true)
    this.spend(budget, began, 'value' in outcome && outcome.value !== undefined)
    const entries = 'value' in outcome ? outcome.value : undefined
    return entries && places.map((place) => entries[place])
  }

  close(): void {
    this.#closed = true
    this.#cancelProbe()
  }

  #open(): Batch {
    const keys = new Map<string, number>()
    const entries = new Promise<readonly (StoredEntry | undefined)[] | undefined>((resolve) => {
      process.nextTick(() => {
        this.#batch = undefined
        resolve(
          this.call(
            'read',
            async (store) => checkEntries(await store.read([...keys.keys()]), keys.size),
            this.budget(),
          ).then((r) => r?.entries),
        )
      })
    })
    return { keys, entries }
  }

  #attempt<T>(
    run: (store: CacheStore) => Promise<T>,
    waitMs: number,
    keepAlive: boolean,
    late?: (result: T) => void,
  ): Promise<{ value: T } | { error: unknown }> {
    return new Promise((resolve) => {
      let waiting = true
      const end = (outcome: { value: T } | { error: unknown }): void => {
        if (!waiting) {
          if ('value' in outcome) late?.(outcome.value)
          return
        }
        waiting = false
        cancel()
        resolve(outcome)
      }
      const giveUp = (): void => end({ error: TOO_SLOW })
      let cancel = this.clock.setTimer(
        () => {
          // When the event loop stood still, the answer may be there, unread: input is read before the next timer.
          cancel = this.clock.setTimer(giveUp, 0, { keepAlive })
        },
        waitMs,
        { keepAlive },
      )
      started(run, this.store).then(
        (value) => end({ value }),
        (error: unknown) => end({ error }),
      )
    })
  }

  #trip(operation: string, error: unknown): void {
    if (this.#out || this.#closed) return
    this.#out = true
    this.#pauseMs = MIN_PAUSE_MS
    this.#probeLater()
    this.failed(operation, error)
  }

  #probeLater(): void {
    this.#cancelProbe = this.clock.setTimer(() => void this.#probe(), this.#pauseMs)
  }

  async #probe(): Promise<void> {
    const recover = (): void => {
      if (!this.#out || this.#closed) return
      this.#cancelProbe()
      this.#out = false
      this.recovered()
    }
    // An answer that comes late, perhaps from a client that has just connected again, says that it is back all the same.
    const ask = async (store: CacheStore): Promise<unknown> => checkState(await store.state([]))
    const outcome = await this.#attempt(ask, this.timeoutMs, false, recover)
    if (this.#closed || !this.#out) return
    if ('value' in outcome) return recover()
    this.#pauseMs = Math.min(2 * this.#pauseMs, MAX_PAUSE_MS)
    this.#probeLater()
  }
}

const TOO_SLOW = new Error('no answer in time')

/** A store that throws at once has failed like one that rejects. */
const started = async <T>(run: (store: CacheStore) => Promise<T>, store: CacheStore): Promise<T> => run(store)
