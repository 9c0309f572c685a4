import { measureHeap, measureKeys } from './memory.js'
import { suites } from './suites.js'

// Prints as JSON, by title and candidate, how many bytes a call takes; or, of one comparison and one candidate, how many bytes
// a key takes. Started by run.ts with the flags that this needs.

const [suite = '', title, name] = process.argv.slice(2)
const comparisons = ((await suites[suite]?.()) ?? []).filter((one) => 'candidates' in one)
const comparison = comparisons.find((one) => one.title === title)
const candidate = comparison?.candidates.find((one) => one.name === name)
if (comparison && candidate) {
  process.stdout.write(JSON.stringify(await measureKeys(candidate, candidate.keys ?? comparison.keys ?? NaN)))
} else {
  const result: Record<string, Record<string, number>> = {}
  for (const one of comparisons) if (one.heap) result[one.title] = await measureHeap(one)
  process.stdout.write(JSON.stringify(result))
}
process.exit(0)
