import { mkdirSync, writeFileSync } from 'node:fs'
import { TokenBucket } from '../src/rate-limit/index.js'
import { ManualClock } from '../src/testing/index.js'

// npx tsx bench/plot-admitted.ts: draws docs/benchmarks/admitted.svg, what a real TokenBucket admits on a clock that is moved by hand.

const CAPACITY = 20
const REFILL = 10
const SECONDS = 10
const STEP_MS = 50

/** One kind of load: how many calls come in the step that begins at `ms`. */
interface Load {
  readonly title: string
  readonly calls: (ms: number) => number
}

const every = (ms: number, wanted: number): number => (ms % wanted === 0 ? 1 : 0)
const loads: readonly Load[] = [
  { title: 'Burst: 100 calls at once after 1 s, 40 after 6 s', calls: (ms) => ({ 1_000: 100, 6_000: 40 })[ms] ?? 0 },
  { title: 'Steady: 20 calls a second, twice the refill', calls: (ms) => every(ms, 50) },
]

interface Point {
  readonly ms: number
  readonly asked: number
  readonly admitted: number
}

async function run({ calls }: Load): Promise<readonly Point[]> {
  const clock = new ManualClock()
  const bucket = new TokenBucket({ capacity: CAPACITY, refillPerSecond: REFILL, clock })
  const points: Point[] = [{ ms: 0, asked: 0, admitted: 0 }]
  let asked = 0
  let admitted = 0
  for (let ms = 0; ms < SECONDS * 1_000; ms += STEP_MS) {
    for (let i = calls(ms); i > 0; i--) {
      asked++
      if (bucket.tryTake()) admitted++
    }
    points.push({ ms, asked, admitted })
    await clock.advance(STEP_MS)
  }
  return [...points, { ms: SECONDS * 1_000, asked, admitted }]
}

const [WIDTH, HEIGHT, LEFT, TOP, GAP] = [760, 290, 44, 40, 44]
const PANEL = (WIDTH - LEFT - GAP - 24) / 2
const MOST = 200
const x = (panel: number, ms: number): string =>
  (LEFT + panel * (PANEL + GAP) + (ms / (SECONDS * 1_000)) * PANEL).toFixed(1)
const y = (count: number): string => (TOP + (1 - Math.min(count, MOST) / MOST) * (HEIGHT - TOP - 60)).toFixed(1)

/** Stairs: a count stays what it is until the next call. */
function stairs(panel: number, points: readonly Point[], of: (point: Point) => number): string {
  const [first, ...rest] = points
  if (!first) return ''
  return `M${x(panel, first.ms)} ${y(of(first))}${rest.map((p) => `H${x(panel, p.ms)}V${y(of(p))}`).join('')}`
}

const body: string[] = []
for (const [panel, load] of loads.entries()) {
  const points = await run(load)
  body.push(`<text class="title" x="${x(panel, 0)}" y="20">${load.title}</text>`)
  for (let count = 0; count <= MOST; count += 40) {
    body.push(`<path class="grid" d="M${x(panel, 0)} ${y(count)}H${x(panel, SECONDS * 1_000)}"/>`)
    if (panel === 0) body.push(`<text class="left" x="${LEFT - 6}" y="${Number(y(count)) + 4}">${count}</text>`)
  }
  for (let second = 0; second <= SECONDS; second += 2)
    body.push(`<text class="below" x="${x(panel, second * 1_000)}" y="${HEIGHT - 44}">${second} s</text>`)
  const bound = `M${x(panel, 0)} ${y(CAPACITY)}L${x(panel, SECONDS * 1_000)} ${y(CAPACITY + REFILL * SECONDS)}`
  body.push(
    `<path class="bound" d="${bound}"/>`,
    `<path class="asked" d="${stairs(panel, points, (p) => p.asked)}"/>`,
    `<path class="admitted" d="${stairs(panel, points, (p) => p.admitted)}"/>`,
  )
}
const legend = [
  ['asked', 'calls so far'],
  ['admitted', 'admitted so far'],
  ['bound', `${CAPACITY} + ${REFILL} per second, the most there can be`],
]
for (const [i, [kind, text]] of legend.entries()) {
  const at = LEFT + i * 190
  body.push(
    `<path class="${kind}" d="M${at} ${HEIGHT - 16}h26"/>`,
    `<text x="${at + 34}" y="${HEIGHT - 12}">${text}</text>`,
  )
}

const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="Calls admitted over ten seconds by a bucket of ${CAPACITY} tokens that refills ${REFILL} a second, under a burst and under steady load">
<style>
text { font: 12px system-ui, sans-serif; fill: #333 }
.title { font-weight: 600; font-size: 13px }
.left { text-anchor: end } .below { text-anchor: middle }
path { fill: none; stroke-width: 2 }
.grid { stroke: #8884; stroke-width: 1 }
.asked { stroke: #8a94a3 } .admitted { stroke: #2a6fdb; stroke-width: 2.5 } .bound { stroke: #c2571a; stroke-dasharray: 4 4; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd }
  .asked { stroke: #788292 } .admitted { stroke: #5b9bff } .bound { stroke: #f0945a }
}
</style>
${body.join('\n')}
</svg>
`
mkdirSync('docs/benchmarks', { recursive: true })
writeFileSync('docs/benchmarks/admitted.svg', svg)
