import { readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { cache } from './cache.js'
import { eventSourcing } from './event-sourcing.js'
import { measure, table, type Comparison } from './harness.js'
import { rateLimit } from './rate-limit.js'
import { resilience } from './resilience.js'

// npm run bench [NAME]: measures holdfast beside its peers; a whole run rewrites the table in docs/benchmarks.md.

const PAGE = 'docs/benchmarks.md'
const MARK = '<!-- figures -->'
const suites: Record<string, () => readonly Comparison[] | Promise<readonly Comparison[]>> = {
  resilience,
  'rate-limit': rateLimit,
  cache,
  'event-sourcing': eventSourcing,
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
