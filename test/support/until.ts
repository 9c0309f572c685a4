import { systemClock } from '../../src/kernel/clock.js'

/** Waits until `check` holds. @returns after how many milliseconds it did @throws when that takes longer than a busy machine can explain */
export async function until(check: () => boolean | Promise<boolean>, limitMs: number = 30_000): Promise<number> {
  const began = performance.now()
  // oxlint-disable no-await-in-loop -- one look after the other
  while (!(await check())) {
    if (performance.now() - began > limitMs) throw new Error(`what was waited for did not happen within ${limitMs} ms`)
    await systemClock.sleep(5)
  }
  return performance.now() - began
}
