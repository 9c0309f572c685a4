import { fork, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { expect, inject, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/kernel/clock.js'
import { RedisEventBus } from '../../src/messaging/redis.js'
import { bundle } from '../support/bundle.js'
import { Proxy } from '../support/proxy.js'
import { connect } from '../support/redis.js'
import type { Job, Work } from './redis-worker.js'

// HOLDFAST_CHAOS_MESSAGES=100000 is the long version.

const MESSAGES = Number(process.env['HOLDFAST_CHAOS_MESSAGES'] ?? 5_000)
const IS_LONG = process.env['HOLDFAST_CHAOS_MESSAGES'] !== undefined
const KEYS = 50
const POISON_EVERY = 500
const WORKERS = 4
const worker = await bundle('test/messaging/redis-worker.ts')

test(
  'consumers killed every 300 ms, connections cut every 500 ms: each effect once, each key in order, poison in the dead letters',
  async () => {
    const port = Number(new URL(inject('redisUrl')).port)
    const proxy = await Proxy.to(port)
    const children = new Set<ChildProcess>()
    const ready = new Set<ChildProcess>()
    const client = connect(proxy.port, { retryStrategy: () => 20, maxRetriesPerRequest: null })
    const namespace = randomUUID()
    const direct = connect(port)
    const inbox = `${namespace}:inbox:`
    const bus = new RedisEventBus<{ work: Work }>(client, { namespace, maxBacklog: MESSAGES + 1_000 })
    const over = new AbortController()
    onTestFinished(async () => {
      over.abort()
      for (const child of children) child.kill('SIGKILL')
      proxy.close()
    })

    let [kills, cuts] = [0, 0]
    const spawn = async (): Promise<void> => {
      const child = fork(worker)
      children.add(child)
      const common = { port: proxy.port, notes: port, namespace, leaseMs: 500, handleMs: 0, concurrency: 20 }
      child.send({ ...common, inbox } satisfies Job)
      await new Promise<void>((resolve) => {
        child.once('message', () => {
          ready.add(child)
          resolve()
        })
        child.once('exit', () => resolve())
      })
    }
    await Promise.all(Array.from({ length: WORKERS }, spawn))
    const began = systemClock.now()
    const every = async (ms: number, act: () => unknown): Promise<void> => {
      while (!over.signal.aborted) {
        await systemClock.sleep(ms) // oxlint-disable-line no-await-in-loop
        if (!over.signal.aborted) await act() // oxlint-disable-line no-await-in-loop
      }
    }
    const killing = every(300, () => {
      const [oldest] = ready
      if (!oldest || ready.size < 2) return // a new process takes seconds to begin on a busy machine
      kills++
      oldest.kill('SIGKILL')
      ready.delete(oldest)
      children.delete(oldest)
      void spawn()
    })
    const cutting = every(500, async () => {
      cuts++
      proxy.set('cut')
      await systemClock.sleep(5)
      proxy.set('open')
    })

    const batch = 50
    for (let first = 0; first < MESSAGES; first += batch) {
      const messages = Array.from({ length: Math.min(batch, MESSAGES - first) }, (_, i) => {
        const n = first + i
        return {
          id: `m${n}`,
          type: 'work' as const,
          key: `k${n % KEYS}`,
          data: { n, poison: n % POISON_EVERY === 250 },
        }
      })
      await bus.publish(messages) // oxlint-disable-line no-await-in-loop -- the client sends again what was cut off
    }
    const published = systemClock.now() - began
    const poison = Math.floor((MESSAGES + POISON_EVERY - 251) / POISON_EVERY)
    const count = (): Promise<number> => direct.llen(`${inbox}effects`)
    const log = `{${namespace}:}log`
    for (let handled = 0; handled < MESSAGES - poison || (await direct.xlen(log)) > poison; handled = await count()) {
      if (IS_LONG) process.stderr.write(`${handled} handled, ${kills} kills, ${cuts} cuts\n`)
      await systemClock.sleep(IS_LONG ? 2_000 : 200) // oxlint-disable-line no-await-in-loop
    }
    const tookMs = systemClock.now() - began
    over.abort()
    await Promise.all([killing, cutting])

    const byKey = new Map<string, number[]>()
    for (const effect of await direct.lrange(`${inbox}effects`, 0, -1)) {
      const [key, n] = effect.split(' ') as [string, string]
      const numbers = byKey.get(key) ?? []
      byKey.set(key, numbers)
      numbers.push(Number(n))
    }
    for (let k = 0; k < KEYS; k++) {
      const expected: number[] = []
      for (let n = k; n < MESSAGES; n += KEYS) if (n % POISON_EVERY !== 250) expected.push(n)
      expect(byKey.get(`k${k}`)).toEqual(expected)
    }
    const letters = await bus.deadLetters('g').list(MESSAGES)
    expect(letters.map(({ message }) => message.data.n).toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: poison }, (_, i) => i * POISON_EVERY + 250),
    )
    for (const { reason, firstError } of letters) expect([reason, firstError.message]).toEqual(['attempts', 'poison'])
    const figures = { messages: MESSAGES, kills, cuts, publishedMs: Math.round(published), tookMs: Math.round(tookMs) }
    if (IS_LONG) process.stderr.write(`${JSON.stringify(figures)}\n`)
    expect(kills).toBeGreaterThan(0)
    expect(cuts).toBeGreaterThan(0)
  },
  60_000 + MESSAGES * 40,
)
