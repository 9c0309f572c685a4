import { onAbort } from './signal.js'

/** Time and timers, so that everything that waits can be tested without waiting. */
export interface Clock {
  /** Monotonic milliseconds from an arbitrary start: for durations. Never goes back. */
  now(): number
  /** Wall-clock milliseconds since 1970: what people read, and what other processes compare. May jump. */
  epochMs(): number
  /**
   * Calls `fn` once after `ms` milliseconds of any size, never before `now()` has moved on by so many; `Infinity` never. An idle timer does not keep the process alive
   * unless `keepAlive` is set: set it when somebody awaits what the timer does.
   * @returns cancels the timer; harmless when it has fired
   */
  setTimer(fn: () => void, ms: number, options?: { readonly keepAlive?: boolean | undefined }): () => void
  /** Resolves after `ms` milliseconds; rejects with `signal.reason` as soon as it aborts. Keeps the process alive. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

/** The longest delay a host timer takes: above it, Node fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

const { performance: host } = globalThis // looked up once: the global is a getter, and reading it a third of the cost

/** This process's clock. */
export const systemClock: Clock = {
  now: () => host.now(),
  epochMs: () => Date.now(),

  setTimer(fn, ms, { keepAlive = false } = {}) {
    const delay = Math.ceil(ms) + 1 // the host counts whole milliseconds, from the last whole one: it would fire up to one too early
    if (delay > LONGEST_TIMER_MS) return longTimer(fn, delay, keepAlive)
    const timer = setTimeout(fn, delay)
    if (!keepAlive) timer.unref?.()
    return () => clearTimeout(timer)
  },

  sleep: (ms, signal) => sleepOn(systemClock, ms, signal),
}

/** A timer in parts, each short enough for the host. */
function longTimer(fn: () => void, ms: number, keepAlive: boolean): () => void {
  if (ms === Infinity) return () => {}
  let left = ms
  let timer: NodeJS.Timeout
  const arm = (): void => {
    const part = Math.min(left, LONGEST_TIMER_MS)
    left -= part
    timer = setTimeout(left > 0 ? arm : fn, part)
    if (!keepAlive) timer.unref?.()
  }
  arm()
  return () => clearTimeout(timer)
}

/** {@link Clock.sleep} in terms of `setTimer`, for whoever writes a clock. */
export function sleepOn(clock: Pick<Clock, 'setTimer'>, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    let forget: (() => void) | undefined
    const cancel = clock.setTimer(
      () => {
        forget?.()
        resolve()
      },
      ms,
      { keepAlive: true },
    )
    if (signal) {
      forget = onAbort(signal, () => {
        cancel()
        reject(signal.reason)
      })
    }
  })
}

/** Resolves when `work` has settled, or after `ms` milliseconds. Never rejects. */
export function settledWithin(clock: Clock, ms: number, work: Promise<unknown>): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.setTimer(resolve, ms, { keepAlive: true })
    const end = (): void => {
      cancel()
      resolve()
    }
    work.then(end, end)
  })
}
