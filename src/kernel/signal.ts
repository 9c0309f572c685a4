import { reportError } from './report.js'

const fanOuts = new WeakMap<AbortSignal, Set<() => void>>()

/**
 * Calls `fn` once when `signal` aborts (not if it has aborted already). All callers on one signal share one listener, so
 * that thousands of calls under one parent raise no MaxListeners warning.
 * @returns forgets `fn`; the shared listener goes with the last one
 */
export function onAbort(signal: AbortSignal, fn: () => void): () => void {
  let waiting = fanOuts.get(signal)
  if (!waiting) {
    waiting = new Set()
    fanOuts.set(signal, waiting)
    signal.addEventListener('abort', fire, { once: true })
  }
  const entry = (): void => fn() // an entry of its own, so that the same function may wait twice
  const mine = waiting.add(entry)
  return () => {
    if (mine.delete(entry) && mine.size === 0 && fanOuts.get(signal) === mine) {
      fanOuts.delete(signal)
      signal.removeEventListener('abort', fire)
    }
  }
}

function fire(this: AbortSignal): void {
  const waiting = fanOuts.get(this)
  fanOuts.delete(this)
  for (const fn of waiting ?? []) {
    try {
      fn()
    } catch (error) {
      reportError(error)
    }
  }
}

/** Settles as `promise` does, unless `signal` aborts first: then rejects with its reason, and `promise` is left to itself. */
export function orAbort<T>(promise: PromiseLike<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return Promise.resolve(promise)
  return new Promise<T>((resolve, reject) => {
    if (signal.aborted) {
      promise.then(undefined, () => {}) // its failure has no reader any more
      return reject(signal.reason)
    }
    const forget = onAbort(signal, () => reject(signal.reason))
    promise.then(
      (value) => {
        forget()
        resolve(value)
      },
      (error) => {
        forget()
        reject(error)
      },
    )
  })
}
