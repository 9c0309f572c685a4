#!/usr/bin/env node
import { createInterface } from 'node:readline/promises'
import { systemClock } from '../kernel/clock.js'
import { run } from './run.js'

/** How long a command may take to end once it was asked to, in milliseconds: a server may not answer. */
const GRACE_MS = 1_000

const stopping = new AbortController()
const stop = (): void => {
  stopping.abort()
  systemClock.setTimer(() => process.exit(), GRACE_MS)
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop)
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error // `| head` has seen enough
  stop()
})

/** On standard error, so that what was asked for can go elsewhere. */
async function ask(question: string): Promise<string> {
  // no terminal of its own: Ctrl-C is to reach this process as ever
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: false })
  const left = new Promise<string>((resolve) => lines.once('close', () => resolve('')))
  try {
    return await Promise.race([lines.question(question, { signal: stopping.signal }), left])
  } finally {
    lines.close()
  }
}

process.exitCode = await run(process.argv.slice(2), {
  out: (line) => void process.stdout.write(`${line}\n`),
  err: (line) => void process.stderr.write(`${line}\n`),
  columns: process.stdout.columns || Infinity, // 0 when nobody has set it
  env: process.env,
  ask: process.stdin.isTTY ? ask : undefined,
  signal: stopping.signal,
})
process.stdout.write('', () => process.exit()) // a module of the user's may have something open
