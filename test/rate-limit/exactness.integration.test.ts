import { fork, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { Cluster, Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { Servers, type Server } from '../../scripts/servers.mjs'
import type { Limit } from '../../src/rate-limit/index.js'
import { RedisTokenBucketStore } from '../../src/rate-limit/redis.js'
import { bundle } from '../support/bundle.js'
import { connect } from '../support/redis.js'
import type { Job, Outcome } from './limit-worker.js'

// Eight real processes under one limit, while their Redis forgets its scripts, cuts their connections and stands still.

const PROCESSES = 8
const CALLS = 1_000
const limit: Limit = { name: 'shared', capacity: 400, refillPerSecond: 100 }
const LEASE = { tokens: 20, ttlMs: 1_000 }
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const worker = await bundle('test/rate-limit/limit-worker.ts')
const servers = new Servers()
let single: Server
let nodes: readonly Server[]
beforeAll(async () => {
  single = await servers.redis()
  nodes = await servers.redisCluster()
})
afterAll(() => servers.stop())

/** Runs them all. @returns what each told, and for how many seconds by the server's clock */
async function run(
  job: Omit<Job, 'limit' | 'calls'>,
  disturb: (workers: readonly ChildProcess[]) => Promise<void>,
  clockPort: number = job.ports[0]!,
): Promise<{ allowed: Record<string, number>; failed: number; seconds: number }> {
  const admin = new Redis(clockPort)
  const secondsNow = async (): Promise<number> => (await microsNow(admin)) / 1e6
  const workers = Array.from({ length: PROCESSES }, () => fork(worker))
  onTestFinished(() => {
    for (const each of workers) each.kill('SIGKILL')
    admin.disconnect()
  })
  const told = <T>(): Promise<T[]> =>
    Promise.all(workers.map((each) => new Promise<T>((resolve) => each.once('message', (it) => resolve(it as T)))))
  await told<'ready'>()
  const began = await secondsNow()
  for (const each of workers) each.send({ ...job, limit, calls: CALLS } satisfies Job)
  const ended = told<Outcome>().then(async (all) => ({ all, seconds: (await secondsNow()) - began }))
  await disturb(workers)
  const { all, seconds } = await ended
  const allowed = Object.fromEntries(job.keys.map((key) => [key, all.reduce((sum, one) => sum + one.allowed[key]!, 0)]))
  return { allowed, failed: all.reduce((sum, { failed }) => sum + failed, 0), seconds }
}

const microsNow = async (redis: Redis): Promise<number> => {
  const [seconds, micros] = (await redis.time()).map(Number)
  return seconds! * 1e6 + micros!
}

/** What a Redis goes through: each is seen by all of its clients. */
async function trouble(redis: readonly Server[]): Promise<void> {
  const admins = redis.map(({ port }) => new Redis(port))
  for (let round = 0; round < 4; round++) {
    await sleep(250)
    for (const admin of admins) await admin.script('FLUSH')
    await sleep(100)
    for (const admin of admins) await admin.call('client', 'kill', 'type', 'normal', 'skipme', 'yes')
    await sleep(100)
    for (const { pid } of redis) process.kill(pid, 'SIGSTOP')
    await sleep(150)
    for (const { pid } of redis) process.kill(pid, 'SIGCONT')
  }
  for (const admin of admins) admin.disconnect()
}

describe.each([
  ['Redis', () => [single]],
  ['a Redis Cluster of three', () => nodes],
] as const)('eight processes on %s', (_, redis) => {
  test.each([
    ['without leases', undefined],
    ['with leases', LEASE],
  ])(
    '%s: never more pass than capacity + refill × time, whatever the server goes through',
    async (_name, lease) => {
      const keys = ['a', 'b', 'c']
      const ports = redis().map(({ port }) => port)
      const job = { ports, prefix: `${randomUUID()}:`, lease, keys }
      const { allowed, failed, seconds } = await run(job, () => trouble(redis()))
      const most = limit.capacity + limit.refillPerSecond * seconds
      console.log(
        `${JSON.stringify(allowed)} of ${most.toFixed(0)} passed in ${seconds.toFixed(1)} s, ${failed} without an answer`,
      )
      for (const key of keys) {
        expect(allowed[key]).toBeLessThanOrEqual(most)
        expect(allowed[key]).toBeGreaterThan(limit.capacity * 0.7) // or nothing was tried
      }
    },
    120_000,
  )
})

test('a fail-over to a replica gives back at most what the bucket holds: what it had not copied yet', async () => {
  const master = await servers.redis({ 'repl-diskless-sync-delay': 0 }) // else it waits 5 s for more replicas
  const replica = await servers.redis({ replicaof: `127.0.0.1 ${master.port}` })
  const admin = connect(replica.port)
  while (!(await admin.info('replication')).includes('master_link_status:up')) await sleep(20)
  const job = { ports: [master.port], prefix: `${randomUUID()}:`, lease: undefined, keys: ['a'] }
  const failOver = async (workers: readonly ChildProcess[]): Promise<void> => {
    await sleep(600)
    process.kill(master.pid, 'SIGKILL')
    await admin.call('replicaof', 'no', 'one')
    for (const each of workers) each.send({ moveTo: replica.port })
  }
  const { allowed, seconds } = await run(job, failOver, replica.port)
  const most = limit.capacity + limit.refillPerSecond * seconds
  console.log(`${allowed['a']} of ${most.toFixed(0)} passed across a fail-over in ${seconds.toFixed(1)} s`)
  expect(allowed['a']).toBeLessThanOrEqual(most + limit.capacity)
  expect(allowed['a']).toBeGreaterThan(limit.capacity * 0.7)
}, 120_000)

test('after ten thousand random operations every key has a TTL, and none lives longer than its time to full and a second', async () => {
  const redis = new Redis(single.port)
  const cluster = new Cluster(nodes.map(({ port }) => ({ host: '127.0.0.1', port })))
  onTestFinished(() => {
    redis.disconnect()
    cluster.disconnect()
  })
  const prefix = `${randomUUID()}:`
  const limits: Limit[] = [limit, { name: 'slow', capacity: 50, refillPerSecond: 0.5 }]
  const stores = [
    new RedisTokenBucketStore(redis, { prefix }),
    new RedisTokenBucketStore(redis, { prefix, lease: { tokens: 5, ttlMs: 50 } }),
    new RedisTokenBucketStore(cluster, { prefix }),
    new RedisTokenBucketStore(cluster, { prefix, lease: { tokens: 5, ttlMs: 50 } }),
  ]
  let seed = 7
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below
  for (let round = 0; round < 100; round++) {
    await Promise.all(
      Array.from({ length: 100 }, async () => {
        const store = stores[random(4)]!
        const key = `k${random(40)}`
        const list = limits.slice(random(2))
        const op = random(10)
        if (op < 7) await store.take(key, random(60), list)
        else if (op < 9) await store.adjust(key, random(40) - 20, list)
        else await store.reset(key, list)
      }),
    )
  }
  await Promise.all(stores.map((store) => store.close()))
  let seen = 0
  for (const server of [redis, ...cluster.nodes('master')]) {
    for (const key of await server.keys(`*${prefix}*`)) {
      const [fullAt, now, ttl] = [Number(await server.get(key)), await microsNow(server), await server.pttl(key)]
      if (ttl === -2) continue // gone meanwhile
      seen++
      const toFullMs = Math.max(0, (fullAt - now) / 1_000) // a tick of both limits is 1 µs; a mark of a call has no text
      expect([key, ttl >= 0 && ttl <= toFullMs + 1_000]).toEqual([key, true])
    }
  }
  expect(seen).toBeGreaterThan(20)
})
