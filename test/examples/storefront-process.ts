import { spawn, type ChildProcess } from 'node:child_process'
import { onTestFinished } from 'vitest'
import { until } from './storefront-client.js'

/** A storefront in a process of its own. */
export interface Running {
  readonly child: ChildProcess
  readonly url: string
  readonly output: () => string
  /** Resolves with the exit code, or the signal that ended it. */
  readonly ended: Promise<number | string | null>
}

/** Starts one with these arguments, and ends it with the test. */
export async function start(...args: string[]): Promise<Running> {
  const child = spawn(process.execPath, ['--import', 'tsx', 'examples/storefront/main.ts', ...args])
  let output = ''
  child.stdout.on('data', (text) => (output += text))
  child.stderr.on('data', (text) => (output += text))
  const ended = new Promise<number | string | null>((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal))
  })
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const url = await until(
    () => /open (http:\S+)/.exec(output)?.[1] ?? (child.exitCode === null ? undefined : output),
    60_000,
  )
  return { child, url, output: () => output, ended }
}

/** Changes switches. */
export async function flip(url: string, switches: object): Promise<void> {
  const headers = { 'content-type': 'application/json' }
  await fetch(`${url}/switches`, { method: 'PATCH', headers, body: JSON.stringify(switches) })
}
