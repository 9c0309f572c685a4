import fc from 'fast-check'
import { test } from 'vitest'

export { fc }

/** A test whose arguments fast-check makes. `FC_SEED=1` replays a failure, `FC_RUNS=10000` raises the effort. */
export function prop<Ts extends [unknown, ...unknown[]]>(
  name: string,
  arbitraries: { [K in keyof Ts]: fc.Arbitrary<Ts[K]> },
  check: (...args: Ts) => Promise<boolean | void> | boolean | void,
  params: fc.Parameters<Ts> = {},
): void {
  const { FC_SEED: seed, FC_RUNS: runs } = process.env
  test(name, () =>
    fc.assert(
      fc.asyncProperty(...arbitraries, async (...args: Ts) => check(...args)),
      { ...params, ...(seed ? { seed: Number(seed) } : {}), ...(runs ? { numRuns: Number(runs) } : {}) },
    ),
  )
}
