import { systemClock } from '../../src/kernel/clock.js'

/**
 * Asks again until the answer is something else than `false` or `undefined`. @returns the answer
 * @throws when that takes longer than a busy machine can explain
 */
export async function until<T>(
  look: () => T | Promise<T>,
  limitMs: number = 30_000,
): Promise<Exclude<T, false | undefined>> {
  const late = performance.now() + limitMs
  for (;;) {
    // oxlint-disable no-await-in-loop -- one look after the other
    const seen = await look()
    if (seen !== false && seen !== undefined) return seen as Exclude<T, false | undefined>
    if (performance.now() > late) throw new Error(`what was waited for did not happen within ${limitMs} ms`)
    await systemClock.sleep(5)
  }
}
