import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import { onTestFinished } from 'vitest'
import { bundle } from '../support/bundle.js'
import { until } from '../support/until.js'

/** What `npm start` runs. */
export const source = ['--import', 'tsx', 'examples/storefront/main.ts']

/** The same as one file, which starts four times as fast. The page is beside it, as it is beside the source. */
const bundled = await bundle('examples/storefront/main.ts')
const page = path.join(path.dirname(bundled), 'page')
try {
  symlinkSync(path.resolve('examples/storefront/page'), page)
} catch (error) {
  if (!existsSync(page)) throw error // else another test file was quicker
}

/** A storefront in a process of its own. */
export interface Running {
  readonly child: ChildProcess
  readonly url: string
  readonly output: () => string
  /** Resolves with the exit code, or the signal that ended it. */
  readonly ended: Promise<number | string | null>
}

/** Starts one with these arguments, patient with its provider unless they say otherwise, and ends it with the test. */
export const start = (...args: string[]): Promise<Running> => startNode(bundled, '--payment-timeout', '20000', ...args)

/** Starts a storefront as Node is told to. */
export async function startNode(...args: string[]): Promise<Running> {
  const child = spawn(process.execPath, args)
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
