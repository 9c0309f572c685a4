import { quantile, ROUNDS, type Comparison, type Figure } from './harness.js'

const ROUND_MS = 250

/** Candidates in turn, {@link ROUNDS} times, each under the load of so many callers that all wait for their answers. */
export async function measureLoad({ candidates, callers = 1 }: Comparison): Promise<readonly Figure[]> {
  const rounds = new Map(candidates.map(({ name }) => [name, { ns: [] as number[], p99: [] as number[] }]))
  for (let round = -1; round < ROUNDS; round++) {
    for (const { name, batch } of candidates) {
      const took: number[] = []
      const start = performance.now()
      const end = start + ROUND_MS
      const caller = async (): Promise<void> => {
        for (let before = start; before < end;) {
          await batch(1)
          const now = performance.now()
          took.push(now - before)
          before = now
        }
      }
      await Promise.all(Array.from({ length: callers }, caller))
      if (round < 0) continue // warms up
      rounds.get(name)?.ns.push(((performance.now() - start) * 1e6) / took.length)
      rounds.get(name)?.p99.push(quantile(took, 0.99))
    }
  }
  return [...rounds].map(([name, { ns, p99 }]) => ({
    name,
    ns: quantile(ns, 0.5),
    lowest: quantile(ns, 0),
    highest: quantile(ns, 1),
    p99: quantile(p99, 0.5),
  }))
}
