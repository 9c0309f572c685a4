import fc from 'fast-check'
import { test } from 'vitest'

export { fc }

/** Which cases a plain run sees: the same everywhere, so that a red run is about the change. `FC_SEED=random` looks at others. */
const USUAL_SEED = 1

/** A test whose arguments fast-check makes. `FC_SEED=7` replays a failure, `FC_RUNS=10000` raises the effort. */
export function prop<Ts extends [unknown, ...unknown[]]>(
  name: string,
  arbitraries: { [K in keyof Ts]: fc.Arbitrary<Ts[K]> },
  check: (...args: Ts) => Promise<boolean | void> | boolean | void,
  params: fc.Parameters<Ts> = {},
): void {
  const { FC_SEED: given = USUAL_SEED, FC_RUNS: runs } = process.env
  const seed = given === 'random' ? {} : { seed: Number(given) }
  test(name, () =>
    fc.assert(
      fc.asyncProperty(...arbitraries, async (...args: Ts) => check(...args)),
      { ...seed, ...params, ...(runs ? { numRuns: Number(runs) } : {}) },
    ),
  )
}
