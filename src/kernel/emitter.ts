import { checkFunction } from './check.js'
import { reportError } from './report.js'

/** Stops what was started by the call that returned it. Calling it again does nothing. */
export type Unsubscribe = () => void

/**
 * Named events with typed payloads. Listeners run at once, in the order they came; one that throws is reported and changes
 * nothing. Build a payload only if {@link has} says that somebody listens, so that silence costs nothing.
 */
export class Emitter<Events extends object> {
  #listeners: Map<keyof Events, Set<{ call: (event: never) => unknown }>> | undefined

  /** Whether anyone listens to `name`. */
  has(name: keyof Events): boolean {
    return this.#listeners?.has(name) ?? false
  }

  /** Calls `listener` at each event `name` until the returned function is called. @throws InvalidOptionError when it is no function. */
  on<K extends keyof Events>(name: K, listener: (event: Events[K]) => unknown): Unsubscribe {
    const all = (this.#listeners ??= new Map())
    const mine = all.get(name) ?? new Set()
    all.set(name, mine)
    const entry = { call: checkFunction('listener', listener) } // an object of its own, so that the same function may listen twice
    mine.add(entry)
    return () => {
      if (mine.delete(entry) && mine.size === 0 && all.get(name) === mine) all.delete(name)
    }
  }

  /** Tells every listener of `name`. Never throws. */
  emit<K extends keyof Events>(name: K, event: Events[K]): void {
    const mine = this.#listeners?.get(name)
    if (mine) for (const { call } of [...mine]) notify(call as (event: Events[K]) => unknown, event)
  }
}

/** Calls a user's listener; what it throws, or rejects with, is reported and goes no further. */
export function notify<T>(listener: (event: T) => unknown, event: T): void {
  try {
    const result = listener(event)
    if (result instanceof Promise) result.catch(reportError)
  } catch (error) {
    reportError(error)
  }
}
