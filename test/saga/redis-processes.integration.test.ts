import { fork, type ChildProcess } from 'node:child_process'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import { systemClock } from '../../src/kernel/clock.js'
import { SagaOrchestrator } from '../../src/saga/index.js'
import { RedisSagaStore } from '../../src/saga/redis.js'
import { bundle } from '../support/bundle.js'
import { connect } from '../support/redis.js'
import { bookings, fails } from './redis-worker.js'

// Real processes on one Redis, killed and paused at any moment.

const servers = new Servers()
afterAll(() => servers.stop())
const worker = await bundle('test/saga/redis-worker.ts')

const spawn = async (port: number): Promise<ChildProcess> => {
  const child = fork(worker, [String(port)])
  onTestFinished(() => void child.kill('SIGKILL'))
  await new Promise((resolve) => child.once('message', resolve))
  return child
}

test('two processes with kill -9 and pauses beyond their leases finish every saga, each effect recorded once', async () => {
  const { port } = await servers.redis()
  const redis = connect(port)
  const store = new RedisSagaStore(redis)
  const making = new SagaOrchestrator({ store, sagas: [] })
  const definition = bookings(redis)
  const count = 300
  const creating = (async () => {
    for (let i = 0; i < count; i++) {
      await making.run(definition, i, { id: `b${i}` })
      await systemClock.sleep(10)
    }
  })()
  const two = [await spawn(port), await spawn(port)]
  let faults = 0
  for (let round = 0; round < 12; round++) {
    const victim = two[round % 2]!
    await systemClock.sleep(150)
    if (round % 3 === 0) {
      victim.kill('SIGSTOP')
      await systemClock.sleep(900) // its leases are taken over meanwhile
      victim.kill('SIGCONT')
    } else {
      victim.kill('SIGKILL')
      two[round % 2] = await spawn(port)
    }
    faults++
  }
  await creating
  const unfinished = async (): Promise<number> => (await store.list({ stuckForMs: 0, limit: count })).length
  await expect.poll(unfinished, { timeout: 30_000, interval: 100 }).toBe(0)

  const effects = new Map(Object.entries(await redis.hgetall('effects')))
  const all = await store.list({ limit: 2 * count })
  expect(all).toHaveLength(count)
  for (const { id } of all) {
    const { status, journal } = (await store.read(id))!
    const entries = journal.flatMap((record) => record.entries)
    const paths = (type: 'done' | 'compensated'): string[] =>
      entries.flatMap((entry) => (entry.type === type ? [entry.path] : [])).toSorted()
    const isFailed = fails(Number(id.slice(1)))
    expect([id, status]).toEqual([id, isFailed ? 'compensated' : 'completed'])
    const steps = ['flight', 'stay/car/car', 'stay/hotel/room', 'settle']
    expect(paths('done')).toEqual((isFailed ? steps : [...steps, 'pay']).toSorted())
    expect(paths('compensated')).toEqual(isFailed ? ['flight', 'stay/car/car', 'stay/hotel/room'] : [])
    for (const entry of entries) {
      if (entry.type !== 'done' || !entry.value.startsWith('"')) continue
      const times = effects.get(JSON.parse(entry.value) as string)
      expect(Number(times)).toBeGreaterThan(0)
      expect(Number(times)).toBeLessThanOrEqual(1 + faults)
    }
  }
  const keys = count * 3 + [...Array(count).keys()].reduce((sum, i) => sum + (fails(i) ? 3 : 1), 0)
  expect(effects.size).toBe(keys) // a repeat has the key of the first
  expect([...effects.values()].some((times) => Number(times) > 1)).toBe(true) // bodies were cut short
}, 180_000)

// Milliseconds are measured: on a machine with more to do than it can, another try may do.
test('after kill -9 another process goes on within the lease and a second', { retry: 2 }, async () => {
  const { port } = await servers.redis()
  const redis = connect(port)
  const store = new RedisSagaStore(redis)
  const making = new SagaOrchestrator({ store, sagas: [] })
  const first = await spawn(port)
  const definition = bookings(redis)
  for (let i = 1; i <= 6; i++) await making.run(definition, i, { id: `b${i}` })
  await expect.poll(() => redis.hlen('effects'), { interval: 1 }).toBeGreaterThan(0)
  await spawn(port)
  first.kill('SIGKILL')
  const killedAt = performance.now()
  const done = async (): Promise<number> => (await store.list({ status: 'completed', limit: 10 })).length
  await expect.poll(done, { interval: 10 }).toBe(6)
  expect(performance.now() - killedAt).toBeLessThan(700 + 1_000)
})
