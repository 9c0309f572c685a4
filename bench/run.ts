import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { measure, table, type Comparison } from './harness.js'

// npm run bench [NAME]: measures holdfast beside its peers; a whole run rewrites the table in docs/benchmarks.md.

const PAGE = 'docs/benchmarks.md'
const MARK = '<!-- figures -->'
/** Loaded one at a time: a peer's global state must not touch the next suite. */
const suites: Record<string, () => Promise<readonly Comparison[]>> = {
  resilience: async () => (await import('./resilience.js')).resilience(),
  'rate-limit': async () => (await import('./rate-limit.js')).rateLimit(),
  cache: async () => (await import('./cache.js')).cache(),
  'event-sourcing': async () => (await import('./event-sourcing.js')).eventSourcing(),
}

const [only] = process.argv.slice(2)
if (only !== undefined && !(only in suites)) {
  console.error(`No bench '${only}'. There are: ${Object.keys(suites).join(', ')}`)
  process.exit(1)
}

const tables: string[] = []
for (const [name, suite] of Object.entries(suites)) {
  if (only !== undefined && name !== only) continue
  for (const comparison of await suite()) {
    const text = table(comparison.title, await measure(comparison))
    console.log(text)
    tables.push(text)
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
