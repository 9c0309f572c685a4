import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { measure, quantile, type Comparison, type Figure } from './harness.js'
import { measureLoad } from './load.js'
import { plot } from './plot.js'
import { suites } from './suites.js'
import { table, tableOf } from './table.js'

// npm run bench [-- SUITE [PART OF A TITLE]]: measures holdfast beside its peers; a whole run rewrites the figures in docs/benchmarks.md.

const PAGE = 'docs/benchmarks.md'
const PICTURES = 'docs/benchmarks'
const MARK = '<!-- figures -->'

const [only, part = ''] = process.argv.slice(2)
if (only !== undefined && !(only in suites)) {
  console.error(`No bench '${only}'. There are: ${Object.keys(suites).join(', ')}`)
  process.exit(1)
}

/** Memory is measured in a process of its own, whose young generation holds all that a round makes. */
function inAnother(...args: string[]): unknown {
  const flags = ['--expose-gc', '--min-semi-space-size=256', '--max-semi-space-size=256']
  const output = execFileSync(process.execPath, [...flags, ...process.execArgv, 'bench/heap.ts', ...args], {
    encoding: 'utf8',
  })
  return JSON.parse(output)
}

async function figuresOf(suite: string, comparison: Comparison): Promise<readonly Figure[]> {
  if (comparison.callers !== undefined) return measureLoad(comparison)
  if (comparison.keys === undefined) return measure(comparison)
  return comparison.candidates.map(({ name }) => {
    const processes = Array.from({ length: comparison.processes ?? 1 })
    const bytes = quantile(
      processes.map(() => inAnother(suite, comparison.title, name) as number),
      0.5,
    )
    return { name, ns: NaN, lowest: NaN, highest: NaN, bytes }
  })
}

const tables: string[] = []
function tell(text: string): void {
  console.log(text)
  tables.push(text)
}

for (const [name, load] of Object.entries(suites)) {
  if (only !== undefined && name !== only) continue
  const wanted = (await load()).filter(({ title }) => title.toLowerCase().includes(part.toLowerCase()))
  const comparisons = wanted.filter((one) => 'candidates' in one)
  const heap = (comparisons.some((comparison) => comparison.heap) ? inAnother(name) : {}) as Record<
    string,
    Record<string, number>
  >
  const pictures: { comparison: Comparison; figures: readonly Figure[] }[] = []
  for (const comparison of wanted) {
    if ('survey' in comparison) {
      tell(tableOf(comparison, await comparison.survey()))
      continue
    }
    const figures = (await figuresOf(name, comparison)).map((figure) => ({
      bytes: heap[comparison.title]?.[figure.name],
      ...figure,
    }))
    tell(table(comparison, figures))
    if (comparison.plot) pictures.push({ comparison, figures })
  }
  if (pictures.length > 0 && part === '') {
    mkdirSync(PICTURES, { recursive: true })
    writeFileSync(`${PICTURES}/${name}.svg`, plot(pictures))
    console.log(`Written to ${PICTURES}/${name}.svg`)
  }
}

if (only === undefined) {
  const [cpu] = cpus()
  const machine = `Node ${process.versions.node}, ${cpu?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores.`
  const [before] = readFileSync(PAGE, 'utf8').split(MARK)
  writeFileSync(PAGE, `${before}${MARK}\n\n${machine}\n\n${tables.join('\n')}`)
  console.log(`Written to ${PAGE}`)
}
process.exit(0)
