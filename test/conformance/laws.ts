import { expect, onTestFinished, test } from 'vitest'

/**
 * States laws of a contract for one adapter: each is a test with a harness of its own, which is closed at its end.
 * @param gaps law → why this adapter can't keep it; such a test must fail
 */
export function lawsFor<H extends { close(): Promise<unknown> }, A extends unknown[]>(
  adapter: string,
  open: (...options: A) => Promise<H>,
  gaps: Readonly<Record<string, string>> = {},
) {
  const stated = new Set<string>()
  if (Object.keys(gaps).length > 0)
    test(`${adapter}: a gap is one of the laws`, () => {
      expect(Object.keys(gaps).filter((name) => !stated.has(name))).toEqual([])
    })
  return (name: string, check: (harness: H) => Promise<void>, ...options: A): void => {
    stated.add(name)
    const run = name in gaps ? test.fails : test
    run(`${adapter}: ${name}`, async () => {
      const harness = await open(...options)
      onTestFinished(async () => void (await harness.close()))
      await check(harness)
    })
  }
}
