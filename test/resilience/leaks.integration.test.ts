import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

// Real processes, which must end by themselves.

async function run(what: 'calls' | 'circuits', count: number): Promise<unknown> {
  const args = ['--expose-gc', '--import', 'tsx', 'test/resilience/leaks-run.ts', what, `${count}`]
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args)
  expect(stderr).toBe('') // no warning of too many listeners
  return JSON.parse(stdout)
}

test(
  'a million calls with aborts and timeouts leave no timer, no listener and no heap',
  { timeout: 120_000 },
  async () => {
    const seen = (await run('calls', 1_000_000)) as { grew: number }
    expect(seen).toMatchObject({ ran: 1_100_000, timers: 0, listeners: 0 })
    expect(seen.grew).toBeLessThan(1_000_000) // less than one byte a call
  },
)

test('a hundred thousand idle circuits hold no timer, and their process ends by itself', async () => {
  expect(await run('circuits', 100_000)).toEqual({ circuits: 100_000, open: 50_000, timers: 0 })
})
