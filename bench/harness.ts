import { Bench } from 'tinybench'

/** One thing that is measured: `batch` runs the work {@link BATCH} times, so that the harness's own cost does not count. */
export interface Candidate {
  readonly name: string
  /** Runs the work `n` times. */
  readonly batch: (n: number) => unknown
}

/** Candidates that do the same work; the first is the yardstick of the ratios. */
export interface Comparison {
  readonly title: string
  readonly candidates: readonly Candidate[]
}

/** Nanoseconds per operation: the median of the rounds, and the spread between them. */
export interface Figure {
  readonly name: string
  readonly ns: number
  readonly lowest: number
  readonly highest: number
}

const BATCH = 1_000
const ROUNDS = 7

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
    const sorted = all.toSorted((a, b) => a - b)
    return { name, ns: at(sorted, sorted.length >> 1), lowest: at(sorted, 0), highest: at(sorted, sorted.length - 1) }
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

/** A Markdown table: nanoseconds per operation and the ratio to the first row. */
export function table(title: string, figures: readonly Figure[]): string {
  const first = figures[0]?.ns ?? NaN
  const rows = figures.map(
    ({ name, ns, lowest, highest }) =>
      `| ${name} | ${round(ns)} | ${round(lowest)} – ${round(highest)} | ${(ns / first).toFixed(2)} |`,
  )
  return [
    `### ${title}`,
    '',
    '| | ns per operation | lowest – highest | ratio |',
    '| --- | ---: | ---: | ---: |',
    ...rows,
    '',
  ].join('\n')
}

const at = (numbers: readonly number[], i: number): number => numbers[i] ?? NaN
const round = (ns: number): string => Math.round(ns).toLocaleString('en-US')
