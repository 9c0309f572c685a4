import { fork, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { Cluster, Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest'
import { freePort, Servers, type Server } from '../../scripts/servers.mjs'
import { CircuitBreaker } from '../../src/resilience/index.js'
import { RedisCircuitBreakerStore } from '../../src/resilience/redis.js'
import { circuitLedgerContract } from '../conformance/circuit-ledger.js'
import { bundle } from '../support/bundle.js'
import { connect } from '../support/redis.js'
import type { News, Order } from './fleet-worker.js'

// Real processes on real servers. What they do is told by messages; what is killed or stopped, is.

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const FAST = { syncMs: 100, leaseMs: 2_000 }
const program = await bundle('test/resilience/fleet-worker.ts')
const servers = new Servers()
let redis: Redis
let cluster: Cluster
let nodes: Server[]

beforeAll(async () => {
  redis = new Redis(inject('redisUrl'))
  nodes = await servers.redisCluster()
  cluster = new Cluster(nodes.map(({ port }) => ({ host: '127.0.0.1', port })))
})
afterAll(async () => {
  redis.disconnect()
  cluster.disconnect()
  await servers.stop()
})

describe.each(['Redis', 'Redis Cluster'])('%s', (kind) => {
  circuitLedgerContract(`RedisCircuitBreakerStore on ${kind}`, async () => ({
    ledger: new RedisCircuitBreakerStore(kind === 'Redis' ? redis : cluster, { prefix: `${randomUUID()}:` }),
    advance: sleep,
    close: async () => {},
  }))
})

test('every key of a fleet has a TTL, whatever was done with it', async () => {
  const prefix = `${randomUUID()}:`
  const store = new RedisCircuitBreakerStore(redis, { prefix })
  const rules = { trials: 2, failuresToOpen: 1, slowToOpen: Infinity, maxMs: 1_000, waitMs: undefined }
  for (let i = 0; i < 300; i++) {
    const name = `c${i % 7}`
    const { generation } = await store.view(name)
    const any = (i * 7 + (i >> 3)) % 5
    if (any === 0) await store.vote(name, { node: `${i % 3}`, generation, openMs: 1_000, quorum: 2 })
    if (any === 1) await store.acquire(name, { id: `${i % 3}`, generation, trials: 2, leaseMs: 2 })
    if (any === 2)
      await store.settle(name, { id: `${i % 3}`, generation, failed: i % 2 === 0, slow: false, rules, openMs: 1 })
    if (any === 3) await store.close(name, i % 2 ? undefined : generation)
  }
  const keys = await redis.keys(`${prefix}*`)
  expect(keys.length).toBeGreaterThan(0)
  for (const key of keys) expect(await redis.pttl(key), key).toBeGreaterThan(0)
})

test('a server whose clock is put back makes no fleet wait for the difference', async () => {
  const prefix = `${randomUUID()}:`
  const store = new RedisCircuitBreakerStore(redis, { prefix })
  const { generation } = await store.vote('c', { node: 'a', generation: 0, openMs: 200, quorum: 1 })
  // All times an hour ahead: to the script the same as a clock that has gone back by one.
  const putBack = async (...fields: string[]): Promise<void> => {
    for (const field of [...fields, 't']) await redis.hincrby(`${prefix}c`, field, 3_600_000)
    await redis.hincrby(`${prefix}c`, 'g', 3_600_000_000)
  }
  await putBack('u')
  const open = await store.view('c')
  expect(open).toMatchObject({ state: 'open', generation: generation + 3_600_000_000 })
  expect(open.openForMs).toBeLessThanOrEqual(200)
  await sleep(250)
  const ask = { id: 'a', generation: open.generation, trials: 1, leaseMs: 200 }
  const first = await store.acquire('c', ask)
  expect(first).toMatchObject({ state: 'half-open', granted: true })
  expect(first.generation).toBeGreaterThan(open.generation)
  await putBack('l:a')
  const { generation: now, leasedForMs } = await store.view('c')
  expect(leasedForMs).toBeLessThanOrEqual(200)
  await sleep(250)
  expect((await store.acquire('c', { ...ask, id: 'b', generation: now })).granted).toBe(true)
})

test('a client that gives numbers as strings is understood', async () => {
  const strings = new Redis(inject('redisUrl'), { stringNumbers: true })
  const store = new RedisCircuitBreakerStore(strings, { prefix: `${randomUUID()}:` })
  const open = await store.vote('c', { node: 'a', generation: 0, openMs: 1, quorum: 1 })
  expect(open).toMatchObject({ generation: expect.any(Number), state: 'open', openings: 1 })
  await sleep(5)
  const ask = { id: 'a', generation: open.generation, trials: 1, leaseMs: 1_000 }
  expect(await store.acquire('c', ask)).toMatchObject({ granted: true, leasedForMs: 1_000 })
  strings.disconnect()
})

test('a process with an idle circuit of a fleet ends by itself', async () => {
  const script = `import { CircuitBreaker } from './src/resilience/index.ts'
    import { RedisCircuitBreakerStore } from './src/resilience/redis.ts'
    const store = new RedisCircuitBreakerStore({ call: async () => [0, 'closed', 0, 0, 0, 0] })
    for (let i = 0; i < 1_000; i++) await new CircuitBreaker({ name: 'c' + i, store }).execute(() => 1)`
  const child = fork('-', { execArgv: ['--import', 'tsx', '--input-type=module', '-e', script], stdio: 'ignore' })
  child.disconnect()
  expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(0)
})

describe('eight processes', () => {
  let workers: Worker[] = []
  afterEach(() => {
    for (const worker of workers) worker.kill()
    workers = []
  })
  const start = async (count: number, ports: readonly number[]): Promise<void> => {
    workers = await Promise.all(Array.from({ length: count }, () => Worker.start(ports)))
  }
  const all = (order: Order): void => {
    for (const worker of workers) worker.tell(order)
  }
  const states = async (): Promise<string[]> => Promise.all(workers.map(async (worker) => (await worker.seen()).state))
  /** Milliseconds until all are in `state`. */
  const until = async (state: string, withinMs = 20_000): Promise<number> => {
    const startedAt = performance.now()
    for (;;) {
      const seen = await states()
      const ms = performance.now() - startedAt
      if (seen.every((s) => s === state)) return ms
      if (ms > withinMs) throw new Error(`after ${Math.round(ms)} ms: ${seen.join(', ')}`)
      await sleep(25)
    }
  }
  const hanging = (): Worker[] => workers.filter((worker) => worker.hanging > 0)

  /** Opens the fleet, and shows that one process in all makes the trial. @returns it */
  async function oneTrial(openMs: number): Promise<Worker> {
    all({ do: 'make', name: randomUUID(), openMs, store: FAST })
    await until('closed')
    workers[0]!.tell({ do: 'serve', service: 'fails' })
    await until('open')
    all({ do: 'serve', service: 'hangs' })
    await expect.poll(() => hanging().length).toBeGreaterThan(0)
    await sleep(1.5 * FAST.leaseMs) // its lease is renewed: nobody else may try meanwhile
    expect(hanging().map(({ hanging: calls }) => calls)).toEqual([1])
    return hanging()[0]!
  }

  test('make one trial in all; a killed holder’s permit passes on, and one success closes all', async () => {
    await start(8, [redis.options.port!])
    const holder = await oneTrial(2_000)
    holder.kill()
    workers = workers.filter((worker) => worker !== holder)
    await expect.poll(() => hanging().map(({ hanging: calls }) => calls)).toEqual([1])
    all({ do: 'serve', service: 'works' })
    await until('closed')
  })

  test('under a quorum of three, one bad node does not open the others, and three do', async () => {
    await start(5, [redis.options.port!])
    all({ do: 'make', name: randomUUID(), openMs: 60_000, store: { ...FAST, quorum: 3 } })
    await until('closed')
    workers[0]!.tell({ do: 'serve', service: 'fails' })
    await sleep(1_000)
    expect(await states()).toEqual(['open', 'closed', 'closed', 'closed', 'closed'])
    workers[1]!.tell({ do: 'serve', service: 'fails' })
    workers[2]!.tell({ do: 'serve', service: 'fails' })
    await until('open')
  })

  // Milliseconds are measured: on a machine with more to do than it can, another try may do.
  test('lose no call and no time while Redis is stopped, and agree when it is back', { retry: 2 }, async () => {
    const own = await servers.redis()
    await start(8, [own.port])
    all({ do: 'make', name: randomUUID(), openMs: 60_000, store: {} })
    await until('closed')
    await sleep(1_000)
    const before = await Promise.all(workers.map((worker) => worker.seen()))
    process.kill(own.pid, 'SIGSTOP')
    try {
      await sleep(2_500)
      const during = await Promise.all(workers.map((worker) => worker.seen()))
      expect(during.flatMap(({ wrong }) => wrong)).toEqual([])
      // What the library adds, it adds in all of them; a process that the machine has held up is one.
      const middle = (seen: readonly { p99: number }[]): number =>
        seen.map(({ p99 }) => p99).toSorted((a, b) => a - b)[4]!
      const [usual, stopped] = [middle(before), middle(during)]
      const calls = during.reduce((sum, seen) => sum + seen.calls, 0)
      console.log(`${calls} calls while Redis is stopped: p99 ${stopped.toFixed(3)} ms, before ${usual.toFixed(3)} ms`)
      expect(stopped - usual).toBeLessThanOrEqual(1)
      workers[0]!.tell({ do: 'serve', service: 'fails' })
      await sleep(1_000)
      expect((await states()).filter((state) => state === 'open')).toHaveLength(1)
    } finally {
      process.kill(own.pid, 'SIGCONT')
    }
    console.log(`all agree ${Math.round(await until('open', 2_000))} ms after its return`)
  })

  test('stay open when Redis is killed, and open it again when it comes back empty', async () => {
    const own = await servers.redis()
    await start(3, [own.port])
    const name = randomUUID()
    all({ do: 'make', name, openMs: 60_000, store: FAST })
    workers[0]!.tell({ do: 'serve', service: 'fails' })
    await until('open')
    process.kill(own.pid, 'SIGKILL')
    await sleep(1_000)
    expect(await states()).toEqual(['open', 'open', 'open'])
    await servers.redis({ port: own.port })
    const store = new RedisCircuitBreakerStore(connect(own.port))
    await expect.poll(async () => (await store.view(name)).state).toBe('open')
    expect(await states()).toEqual(['open', 'open', 'open'])
  })

  test('on a Cluster of three nodes: one trial in all', async () => {
    await start(
      8,
      nodes.map(({ port }) => port),
    )
    await oneTrial(2_000)
    all({ do: 'serve', service: 'works' })
    await until('closed')
  })
})

test('a circuit decides without waiting for a server that is not there', async () => {
  const nobody = new Redis({ port: await freePort(), host: '127.0.0.1' })
  nobody.on('error', () => {})
  const circuit = new CircuitBreaker({ name: 'c', store: new RedisCircuitBreakerStore(nobody) })
  const lost = new Promise((resolve) => circuit.on('storeFailed', resolve))
  await expect(circuit.execute(() => 'at once')).resolves.toBe('at once')
  expect(await lost).toMatchObject({ error: { code: 'STORE_FAILED' } })
  nobody.disconnect()
})

class Worker {
  /** Calls that hang since the last time it was told how the service is. */
  hanging = 0
  readonly #process: ChildProcess
  #waiting: ((news: Extract<News, { is: 'state' }>) => void)[] = []

  private constructor(child: ChildProcess) {
    this.#process = child
    child.on('message', (news: News) => {
      if (news.is === 'hanging') this.hanging++
      else this.#waiting.shift()?.(news)
    })
  }

  static async start(ports: readonly number[]): Promise<Worker> {
    const child = fork(program, [ports.join()])
    const worker = new Worker(child)
    await worker.seen()
    return worker
  }

  tell(order: Order): void {
    if (order.do === 'serve') this.hanging = 0
    this.#process.send(order)
  }

  seen(): Promise<Extract<News, { is: 'state' }>> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.#process.send({ do: 'measure' } satisfies Order)
    })
  }

  kill(): void {
    this.#process.kill('SIGKILL')
  }
}
