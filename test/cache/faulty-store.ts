import type { CacheBackplane, CacheStore, MemoryCacheBackplane } from '../../src/cache/index.js'
import type { ManualClock } from '../../src/testing/index.js'

/** What happens to one call: milliseconds on the way there and back; lost on one of the ways, it never settles. */
export interface Journey {
  readonly thereMs: number
  readonly backMs: number
  readonly lost?: 'there' | 'back' | undefined
}

/** A store at the other end of a line. Calls take effect in the order they were made; answers may overtake each other. */
export function behindLine(store: CacheStore, clock: ManualClock, journey: (method: string) => Journey): CacheStore {
  let lastArrival = 0
  const line = <T>(method: string, call: () => Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      const { thereMs, backMs, lost } = journey(method)
      if (lost === 'there') return
      lastArrival = Math.max(lastArrival, clock.now() + thereMs)
      clock.setTimer(() => {
        const answer = call()
        const back = (settle: () => void): void => {
          if (lost !== 'back') clock.setTimer(settle, backMs)
        }
        answer.then(
          (value) => back(() => resolve(value)),
          (error) => back(() => reject(error)),
        )
      }, lastArrival - clock.now())
    })
  return {
    read: (keys) => line('read', () => store.read(keys)),
    lease: (key, ms, force) => line('lease', () => store.lease(key, ms, force)),
    fill: (key, token, entry, ms) => line('fill', () => store.fill(key, token, entry, ms)),
    write: (...args) => line('write', () => store.write(...args)),
    invalidate: (what, origin) => line('invalidate', () => store.invalidate(what, origin)),
    state: (tags) => line('state', () => store.state(tags)),
    [Symbol.asyncDispose]: async () => {},
  }
}

/**
 * One manager's end of a backplane. Messages overtake each other; each copy of one arrives after its own time.
 * @param copies milliseconds until each copy of one message is here: none when it is lost
 */
export function behindNetwork(
  backplane: MemoryCacheBackplane,
  clock: ManualClock,
  copies: () => readonly number[],
): CacheBackplane {
  return {
    publish: (...message) => backplane.publish(...message),
    subscribe: (onMessage) =>
      backplane.subscribe((...message) => {
        for (const ms of copies()) clock.setTimer(() => onMessage(...message), ms)
      }),
    [Symbol.asyncDispose]: async () => {},
  }
}

/** A store that never answers while `hung()`, and fails at once while `dead()`. */
export function breakable(store: CacheStore, broken: { hung?: boolean; dead?: boolean; calls?: number }): CacheStore {
  const through = <T>(call: () => Promise<T>): Promise<T> => {
    broken.calls = (broken.calls ?? 0) + 1
    if (broken.hung) return new Promise(() => {})
    return broken.dead ? Promise.reject(new Error('ECONNREFUSED')) : call()
  }
  return {
    read: (keys) => through(() => store.read(keys)),
    lease: (key, ms, force) => through(() => store.lease(key, ms, force)),
    fill: (key, token, entry, ms) => through(() => store.fill(key, token, entry, ms)),
    write: (...args) => through(() => store.write(...args)),
    invalidate: (what, origin) => through(() => store.invalidate(what, origin)),
    state: (tags) => through(() => store.state(tags)),
    [Symbol.asyncDispose]: async () => {},
  }
}
