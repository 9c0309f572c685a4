import type { Comparison, Figure, Findings, Survey, Target } from './harness.js'

/** A Markdown table of what was measured, with the ratio to the first row; then the targets. */
export function table(comparison: Comparison, figures: readonly Figure[]): string {
  const columns = columnsOf(comparison, figures)
  const { title, targets = [] } = comparison
  return [
    `### ${title}`,
    '',
    `| | ${columns.map(({ head }) => head).join(' | ')} |`,
    `| --- |${' ---: |'.repeat(columns.length)}`,
    ...figures.map((figure) => `| ${figure.name} | ${columns.map(({ cell }) => cell(figure)).join(' | ')} |`),
    '',
    ...targets.map((target) => `- ${verdict(target, figures)}`),
    ...(targets.length > 0 ? [''] : []),
  ].join('\n')
}

/** The same of a survey. */
export function tableOf({ title, columns }: Survey, { rows, targets = [] }: Findings): string {
  return [
    `### ${title}`,
    '',
    `| | ${columns.join(' | ')} |`,
    `| --- |${' ---: |'.repeat(columns.length)}`,
    ...rows.map((cells) => `| ${cells.join(' | ')} |`),
    '',
    ...targets.map(({ goal, isMet, shown }) => `- target: ${goal}. ${isMet ? 'Met' : '**Missed**'}: ${shown}`),
    ...(targets.length > 0 ? [''] : []),
  ].join('\n')
}

interface Column {
  readonly head: string
  readonly cell: (figure: Figure) => string
}

function columnsOf({ callers, keys }: Comparison, figures: readonly Figure[]): readonly Column[] {
  const first = figures[0]
  const bytes = (head: string): Column => ({ head, cell: (f) => (f.bytes === undefined ? '' : round(f.bytes)) })
  const ratio = (of: (figure: Figure) => number): Column => ({
    head: 'ratio',
    cell: (figure) => (first ? of(figure) / of(first) : NaN).toFixed(2),
  })
  if (keys !== undefined) return [bytes('bytes per key'), ratio((f) => f.bytes ?? NaN)]
  if (callers !== undefined)
    return [
      { head: 'per second', cell: (f) => round(1e9 / f.ns) },
      { head: 'lowest – highest', cell: (f) => `${round(1e9 / f.highest)} – ${round(1e9 / f.lowest)}` },
      ratio((f) => 1 / f.ns),
      { head: 'p99, ms', cell: (f) => (f.p99 ?? NaN).toFixed(2) },
    ]
  return [
    { head: 'ns per operation', cell: (f) => round(f.ns) },
    { head: 'lowest – highest', cell: (f) => `${round(f.lowest)} – ${round(f.highest)}` },
    ratio((f) => f.ns),
    ...(figures.some((f) => f.bytes !== undefined) ? [bytes('heap, bytes')] : []),
  ]
}

function verdict(
  { candidate, than, times, rate, p99, ns, bytes, more, moreNs }: Target,
  figures: readonly Figure[],
): string {
  const of = (name: string | undefined): Figure => {
    const figure = figures.find((one) => one.name === name)
    if (!figure) throw new Error(`no candidate is called ${name}`)
    return figure
  }
  const said = (what: string, isMet: boolean, shown: string): string =>
    `target: ${candidate} ${what}. ${isMet ? 'Met' : '**Missed**'}: ${shown}`
  const figure = of(candidate)
  if (ns !== undefined) return said(`in at most ${time(ns)}`, figure.ns <= ns, time(figure.ns))
  const held = figure.bytes ?? NaN
  if (bytes !== undefined) return said(`with at most ${bytes} bytes of heap`, held <= bytes, round(held))
  const other = of(than)
  if (more !== undefined) {
    const over = held - (other.bytes ?? NaN)
    return said(`with at most ${more} bytes more than ${than}`, over <= more, round(over))
  }
  if (moreNs !== undefined) {
    const over = figure.ns - other.ns
    return said(`in at most ${time(moreNs)} more than ${than}`, over <= moreNs, time(over))
  }
  const timesMore = (ratio: number): string => `${ratio.toFixed(2)} ×`
  if (rate !== undefined)
    return said(`at least ${rate} × as often as ${than}`, other.ns / figure.ns >= rate, timesMore(other.ns / figure.ns))
  if (p99 !== undefined) {
    const ratio = (figure.p99 ?? NaN) / (other.p99 ?? NaN)
    return said(`with a p99 of at most ${p99} × that of ${than}`, ratio <= p99, timesMore(ratio))
  }
  const ratio = figure.ns / other.ns
  const wanted = times !== undefined && times < 0.39 ? `1/${Math.round(1 / times)}` : times
  return said(`in at most ${wanted} × ${than}`, ratio <= (times ?? NaN), timesMore(ratio))
}

const time = (ns: number): string => (ns < 1e6 ? `${round(ns)} ns` : `${(ns / 1e6).toFixed(1)} ms`)
const round = (n: number): string => Math.round(n).toLocaleString('en-US')
