import { systemClock } from '../kernel/clock.js'
import { notify, type Unsubscribe } from '../kernel/emitter.js'
import type { SagaWake } from './store.js'

/** Those who want to hear of a store's sagas. What was missed is made good from time to time: they are told to look for themselves. */
export class Wakes {
  readonly #listeners = new Set<{ readonly call: (wake: SagaWake) => void }>()
  #cancelPoll: (() => void) | undefined

  constructor(
    private readonly pollMs: number,
    /** Listens to other processes; also called when it does already. */
    private readonly begin: () => void,
    /** Ends that, when nobody is left. */
    private readonly end: () => void,
  ) {}

  listen(listener: (wake: SagaWake) => void): Unsubscribe {
    const entry = { call: listener }
    this.#listeners.add(entry)
    this.begin()
    this.#poll()
    return () => {
      if (!this.#listeners.delete(entry) || this.#listeners.size > 0) return
      this.#cancelPoll?.()
      this.#cancelPoll = undefined
      this.end()
    }
  }

  tell(wake: SagaWake): void {
    for (const { call } of [...this.#listeners]) notify(call, wake)
  }

  #poll(): void {
    this.#cancelPoll ??= systemClock.setTimer(() => {
      this.#cancelPoll = undefined
      this.begin()
      this.tell({ id: undefined, dueInMs: 0 })
      if (this.#listeners.size > 0) this.#poll()
    }, this.pollMs)
  }
}
