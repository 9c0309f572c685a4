import type { Comparison, Figure } from './harness.js'

const WIDTH = 780
const NAMES = 290
const BAR = 18
const ROW = 24
const HEAD = 40
const LONGEST = WIDTH - NAMES - 110

/** Bars of the ratio to the first candidate, on a logarithmic scale, one block for each comparison. Reads in light and in dark. */
export function plot(parts: readonly { comparison: Comparison; figures: readonly Figure[] }[]): string {
  const ratios = parts.flatMap(({ figures }) => figures.map(({ ns }) => ns / (figures[0]?.ns ?? NaN)))
  const [least, most] = [Math.min(...ratios) / 1.6, Math.max(...ratios)]
  const length = (ratio: number): number => (Math.log(ratio / least) / Math.log(most / least)) * LONGEST
  const body: string[] = []
  let y = 8
  for (const { comparison, figures } of parts) {
    const first = figures[0]?.ns ?? NaN
    body.push(`<text class="title" x="8" y="${y + 20}">${escape(comparison.title)}</text>`)
    y += HEAD
    const top = y
    for (const { name, ns } of figures) {
      const ratio = ns / first
      const kind = name.startsWith('holdfast') ? 'ours' : ns === first ? 'floor' : 'peer'
      const width = length(ratio).toFixed(1)
      body.push(
        `<text class="name" x="${NAMES - 8}" y="${y + 13}">${escape(name)}</text>`,
        `<rect class="${kind}" x="${NAMES}" y="${y}" width="${width}" height="${BAR}" rx="2"/>`,
        `<text class="value" x="${NAMES + Number(width) + 6}" y="${y + 13}">${value(ratio)} × · ${time(ns)}</text>`,
      )
      y += ROW
    }
    const one = NAMES + length(1)
    body.push(`<line x1="${one}" x2="${one}" y1="${top - 4}" y2="${y - 2}"/>`)
    y += 12
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" role="img" aria-label="Time per call as a multiple of a hand-written floor, shorter is better">
<style>
text { font: 12px system-ui, sans-serif; fill: #333 }
.title { font-weight: 600; font-size: 14px }
.name { text-anchor: end }
.value { fill: #666 }
rect.floor { fill: #b8bec7 } rect.peer { fill: #8a94a3 } rect.ours { fill: #2a6fdb }
line { stroke: #999; stroke-dasharray: 2 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd } .value { fill: #aaa }
  rect.floor { fill: #565d68 } rect.peer { fill: #788292 } rect.ours { fill: #5b9bff }
}
</style>
${body.join('\n')}
</svg>
`
}

const value = (ratio: number): string => (ratio < 10 ? ratio.toFixed(2) : ratio.toFixed(0))
const time = (ns: number): string => (ns < 10_000 ? `${Math.round(ns)} ns` : `${(ns / 1_000).toFixed(1)} µs`)
const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
