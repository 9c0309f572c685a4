import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { bundle } from '../support/bundle.js'

// Real processes, which must end by themselves. HOLDFAST_LEAK_CALLS=1000000 is the long version.

const CALLS = Number(process.env['HOLDFAST_LEAK_CALLS'] ?? 200_000)
const script = await bundle('test/resilience/leaks-run.ts')

async function run(what: 'calls' | 'circuits', count: number): Promise<unknown> {
  const args = ['--expose-gc', script, what, `${count}`]
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args)
  expect(stderr).toBe('') // no warning of too many listeners
  return JSON.parse(stdout)
}

test('calls with aborts and timeouts leave no timer, no listener and no heap', { timeout: 300_000 }, async () => {
  const seen = (await run('calls', CALLS)) as { grew: number }
  expect(seen).toMatchObject({ ran: CALLS + CALLS / 10, timers: 0, listeners: 0 })
  expect(seen.grew).toBeLessThan(CALLS * 3) // bytes: whatever is left of a call takes more
})

test('a hundred thousand idle circuits hold no timer, and their process ends by itself', async () => {
  expect(await run('circuits', 100_000)).toEqual({ circuits: 100_000, open: 50_000, timers: 0 })
})
