import { Bench } from 'tinybench'

/** One thing that is measured: `batch` runs the work so many times that the harness's own cost does not count. */
export interface Candidate {
  readonly name: string
  /** Runs the work `n` times. */
  readonly batch: (n: number) => unknown
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
}

/** `candidate` takes at most `times` as long as `than`, or at most `ns`, or at most `bytes` of heap. */
export interface Target {
  readonly candidate: string
  readonly than?: string
  readonly times?: number
  readonly ns?: number
  readonly bytes?: number
}

/** Nanoseconds per operation: the median of the rounds, and the spread between them. */
export interface Figure {
  readonly name: string
  readonly ns: number
  readonly lowest: number
  readonly highest: number
  /** Bytes that one operation leaves for the collector. */
  readonly bytes?: number | undefined
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

/**
 * Bytes of heap per operation, by name: the median of {@link ROUNDS}. Only in a process with `--expose-gc` and a young
 * generation so large that nothing is collected while it is measured.
 */
export async function measureHeap({ candidates }: Comparison): Promise<Record<string, number>> {
  if (!globalThis.gc) throw new Error('heap is measured with --expose-gc')
  const bytes: Record<string, number> = {}
  for (const { name, batch } of candidates) {
    await batch(20 * BATCH) // until it is compiled
    const rounds: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      globalThis.gc()
      const before = process.memoryUsage().heapUsed
      await batch(BATCH)
      rounds.push((process.memoryUsage().heapUsed - before) / BATCH)
    }
    bytes[name] = at(
      rounds.toSorted((a, b) => a - b),
      ROUNDS >> 1,
    )
  }
  return bytes
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

/** A Markdown table: nanoseconds per operation, the ratio to the first row, and heap where it was measured; then the targets. */
export function table({ title, targets = [] }: Comparison, figures: readonly Figure[]): string {
  const first = figures[0]?.ns ?? NaN
  const heap = figures.some(({ bytes }) => bytes !== undefined)
  const rows = figures.map(
    ({ name, ns, lowest, highest, bytes }) =>
      `| ${name} | ${round(ns)} | ${round(lowest)} – ${round(highest)} | ${(ns / first).toFixed(2)} |` +
      (heap ? ` ${bytes === undefined ? '' : round(bytes)} |` : ''),
  )
  return [
    `### ${title}`,
    '',
    `| | ns per operation | lowest – highest | ratio |${heap ? ' heap, bytes |' : ''}`,
    `| --- | ---: | ---: | ---: |${heap ? ' ---: |' : ''}`,
    ...rows,
    '',
    ...targets.map((target) => `- ${verdict(target, figures)}`),
    ...(targets.length > 0 ? [''] : []),
  ].join('\n')
}

function verdict({ candidate, than, times, ns, bytes }: Target, figures: readonly Figure[]): string {
  const of = (name: string | undefined): Figure => {
    const figure = figures.find((one) => one.name === name)
    if (!figure) throw new Error(`no candidate is called ${name}`)
    return figure
  }
  const said = (what: string, got: number, most: number, shown: string): string =>
    `target: ${candidate} ${what}. ${got <= most ? 'Met' : '**Missed**'}: ${shown}`
  const figure = of(candidate)
  if (ns !== undefined) return said(`in at most ${ns} ns`, figure.ns, ns, `${round(figure.ns)} ns`)
  if (bytes !== undefined)
    return said(`with at most ${bytes} bytes of heap`, figure.bytes ?? NaN, bytes, `${round(figure.bytes ?? NaN)}`)
  const ratio = figure.ns / of(than).ns
  const wanted = times !== undefined && times < 0.39 ? `1/${Math.round(1 / times)}` : times
  return said(`in at most ${wanted} × ${than}`, ratio, times ?? NaN, `${ratio.toFixed(2)} ×`)
}

const at = (numbers: readonly number[], i: number): number => numbers[i] ?? NaN
const round = (ns: number): string => Math.round(ns).toLocaleString('en-US')
