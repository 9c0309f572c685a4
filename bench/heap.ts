import { measureHeap } from './harness.js'
import { suites } from './suites.js'

// Prints as JSON, by title and candidate, how many bytes a call takes. Started by run.ts with the flags that this needs.

const [suite = ''] = process.argv.slice(2)
const result: Record<string, Record<string, number>> = {}
for (const comparison of (await suites[suite]?.()) ?? [])
  if (comparison.heap) result[comparison.title] = await measureHeap(comparison)
process.stdout.write(JSON.stringify(result))
process.exit(0)
