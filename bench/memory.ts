import { BATCH, quantile, ROUNDS, type Candidate, type Comparison } from './harness.js'

/**
 * Bytes of heap per operation, by name: the median of {@link ROUNDS}. Only in a process with `--expose-gc` and a young
 * generation so large that nothing is collected while it is measured.
 */
export async function measureHeap({ candidates }: Comparison): Promise<Record<string, number>> {
  const bytes: Record<string, number> = {}
  for (const { name, batch } of candidates) {
    await batch(20 * BATCH) // until it is compiled
    const rounds: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const before = held()
      await batch(BATCH)
      rounds.push((process.memoryUsage().heapUsed - before) / BATCH)
    }
    bytes[name] = quantile(rounds, 0.5)
  }
  return bytes
}

/** Bytes that stay for each of `keys` keys, the key itself too. Only in a process with `--expose-gc`. */
export async function measureKeys({ batch }: Candidate, keys: number): Promise<number> {
  const before = held() + process.memoryUsage().arrayBuffers
  await batch(keys)
  const after = held() + process.memoryUsage().arrayBuffers
  await batch(0) // so that it is not collected before
  return (after - before) / keys
}

function held(): number {
  if (!globalThis.gc) throw new Error('memory is measured with --expose-gc')
  globalThis.gc()
  return process.memoryUsage().heapUsed
}
