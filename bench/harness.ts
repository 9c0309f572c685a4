import { Bench } from 'tinybench'

/** One thing that is measured: `batch` runs the work so many times that the harness's own cost does not count. */
export interface Candidate {
  readonly name: string
  /** Runs the work `n` times. */
  readonly batch: (n: number) => unknown
  /** How many keys it holds when memory is measured, where that is not what the {@link Comparison} says. */
  readonly keys?: number
}

/** Candidates that do the same work; the first is the yardstick of the ratios. */
export interface Comparison {
  readonly title: string
  readonly candidates: readonly Candidate[]
  /** What is to be reached. */
  readonly targets?: readonly Target[]
  /** Whether the heap that a call takes is measured too. */
  readonly heap?: boolean
  /** Whether it is a picture on the page. */
  readonly plot?: boolean
  /** So many callers at once, each of which waits for its answer: throughput and p99 are measured. */
  readonly callers?: number
  /** So many keys are filled in, one by one call of `batch`: memory per key is measured, and no time. */
  readonly keys?: number
  /** In so many processes, of which the median counts, memory per key is measured. @defaultValue 1 */
  readonly processes?: number
}

/**
 * `candidate` takes at most `times` as long as `than`, or has at most `p99` times its p99, or does at least `rate` times as
 * many operations per second; or takes at most `ns`, or at most `bytes` of heap, or at most `more` bytes or `moreNs`
 * nanoseconds more than `than`.
 */
export interface Target {
  readonly candidate: string
  readonly than?: string
  readonly times?: number
  readonly rate?: number
  readonly p99?: number
  readonly ns?: number
  readonly bytes?: number
  readonly more?: number
  readonly moreNs?: number
}

/** What is counted in a way of its own: rows of text under columns. The first column is the rows' names. */
export interface Survey {
  readonly title: string
  readonly columns: readonly string[]
  readonly survey: () => Promise<Findings>
}

/** What a {@link Survey} found, and whether that is what was to be reached. */
export interface Findings {
  readonly rows: readonly (readonly string[])[]
  readonly targets?: readonly { readonly goal: string; readonly isMet: boolean; readonly shown: string }[]
}

/** Nanoseconds per operation: the median of the rounds, and the spread between them. */
export interface Figure {
  readonly name: string
  readonly ns: number
  readonly lowest: number
  readonly highest: number
  /** Bytes that one operation leaves for the collector, or that one key takes. */
  readonly bytes?: number | undefined
  /** Milliseconds in which 99 of 100 calls had their answer: the median of the rounds. */
  readonly p99?: number | undefined
}

export const BATCH = 1_000
export const ROUNDS = 7

/** Runs the candidates in turn, {@link ROUNDS} times, so that what else the machine does meets all of them alike. */
export async function measure({ title, candidates }: Comparison): Promise<readonly Figure[]> {
  const rounds = new Map(candidates.map(({ name }) => [name, [] as number[]]))
  for (let round = -1; round < ROUNDS; round++) {
    const bench = new Bench({ time: 200, warmupTime: 50 })
    for (const { name, batch } of candidates) bench.add(name, () => batch(BATCH) as void)
    await bench.run()
    for (const { name, result } of bench.tasks) {
      if (result.state !== 'completed') throw new Error(`${title}: ${name} ended ${result.state}`, { cause: result })
      if (round >= 0) rounds.get(name)?.push((result.latency.p50 * 1e6) / BATCH) // round -1 warms up
    }
  }
  return [...rounds].map(([name, all]) => {
    return { name, ns: quantile(all, 0.5), lowest: quantile(all, 0), highest: quantile(all, 1) }
  })
}

/** Runs an async operation one after the other. */
export const sequential =
  (work: () => unknown): Candidate['batch'] =>
  async (n) => {
    for (let i = 0; i < n; i++) await work()
  }

/** Runs a synchronous operation one after the other. */
export const synchronous =
  (work: () => unknown): Candidate['batch'] =>
  (n) => {
    for (let i = 0; i < n; i++) work()
  }

/** The number below which the part `q` of them lies. */
export function quantile(numbers: Iterable<number>, q: number): number {
  const sorted = Float64Array.from(numbers).sort()
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN
}
