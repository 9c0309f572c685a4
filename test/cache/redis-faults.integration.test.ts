import { fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { Servers, type Server } from '../../scripts/servers.mjs'
import { CacheManager, type CacheManagerOptions } from '../../src/cache/index.js'
import { RedisCacheBackplane, RedisCacheStore } from '../../src/cache/redis.js'
import { bundle } from '../support/bundle.js'
import { Proxy } from '../support/proxy.js'
import { gate } from '../support/gate.js'
import { connect } from '../support/redis.js'
import { until } from '../support/until.js'
import type { Job, Outcome } from './cache-worker.js'

// Managers, each on its own line to one real Redis, while lines are cut or fall silent and the server dies, stands still or is
// replaced. Bounds are those that the library promises, with room for a busy machine where they count the time of an answer: most
// tests wait longer for Redis than a user would, so that only a real fault is one.

const program = await bundle('test/cache/cache-worker.ts')
const servers = new Servers()
afterAll(() => servers.stop())

const STALENESS_MS = 600
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

interface Member {
  readonly cache: CacheManager<Record<string, string>>
  /** The line of commands, and that of messages. */
  readonly commands: Proxy
  readonly messages: Proxy
}

async function member(server: Server, prefix: string, options: CacheManagerOptions = {}): Promise<Member> {
  const [commands, messages] = [await Proxy.to(server.port), await Proxy.to(server.port)]
  const [client, subscriber] = [connect(commands.port), connect(messages.port)]
  const cache = new CacheManager<Record<string, string>>({
    l2: new RedisCacheStore(client, { prefix }),
    backplane: new RedisCacheBackplane(subscriber, { prefix }),
    l2TimeoutMs: 5_000,
    maxStalenessMs: STALENESS_MS,
    ...options,
  })
  onTestFinished(async () => {
    await cache.close()
    commands.close()
    messages.close()
  })
  await until(async () => (await cache.set('ready', 'yes')) === 'applied')
  return { cache, commands, messages }
}

async function two(options?: CacheManagerOptions): Promise<{ server: Server; prefix: string; a: Member; b: Member }> {
  const server = await servers.redis()
  const prefix = `${randomUUID()}:`
  return { server, prefix, a: await member(server, prefix, options), b: await member(server, prefix, options) }
}

const loader = (value: string) => async (): Promise<string> => value

test('what one changes is gone from the first level of another, by key, tag and all', async () => {
  const { a, b } = await two({ maxStalenessMs: 60_000 }) // so that it is the messages that do it
  await a.cache.set('k', '1', { tags: ['t'] })
  const changes = [
    () => a.cache.set('k', '2', { tags: ['t'] }),
    () => a.cache.delete('k'),
    () => a.cache.invalidateTags('t'),
    () => a.cache.expire({ keys: ['k'] }),
    () => a.cache.clear(),
  ]
  for (const change of changes) {
    await until(async () => {
      await b.cache.getOrSet('k', loader('old'), { tags: ['t'] })
      return b.cache.peek('k') !== undefined // else the message of the change before came only now
    })
    expect(await change()).toBe('applied')
    await until(() => b.cache.peek('k') === undefined)
  }
  expect(b.cache.stats()).toMatchObject({ coherent: true, l2Up: true })
})

test.each(['cut', 'silent'] as const)(
  'messages that do not come through (%s): the bound on staleness holds',
  async (line) => {
    const { a, b } = await two()
    await a.cache.set('k', '1')
    expect(await b.cache.get('k')).toBe('1')
    b.messages.set(line)
    await a.cache.set('k', '2')
    await sleep(STALENESS_MS)
    expect(await b.cache.get('k')).toBe('2')
    b.messages.set('open')
    await until(async () => {
      await a.cache.set('k', '3')
      await sleep(50)
      return b.cache.peek('k') === undefined // the messages are back
    })
  },
)

test('a process that is cut off says what it could not do, does it later, and reads nothing older meanwhile or after', async () => {
  const { a, b } = await two({ l2TimeoutMs: 1_000, maxStalenessMs: 2_000 })
  for (const key of ['k1', 'k2', 'k3', 'k4']) {
    await a.cache.set(key, 'v1')
    expect(await b.cache.get(key)).toBe('v1')
  }
  await sleep(100) // the messages of all that are here
  b.commands.set('silent')
  b.messages.set('silent')
  const changed = performance.now()
  expect(await a.cache.set('k1', 'v2')).toBe('applied')
  expect(await a.cache.delete('k2')).toBe('applied')
  expect(await b.cache.delete('k3')).toBe('queued')
  expect(await b.cache.set('k4', 'v4')).toBe('queued')
  expect([await b.cache.get('k3'), b.cache.peek('k4')]).toEqual([undefined, 'v4']) // its own changes it knows
  await sleep(2_000 - (performance.now() - changed) + 1)
  expect([await b.cache.get('k1'), await b.cache.get('k2')]).toEqual([undefined, undefined]) // not known to be current
  expect(await b.cache.getOrSet('k1', loader('loaded'))).toBe('loaded')
  b.commands.set('open')
  b.messages.set('open')
  await until(() => b.cache.stats().queued === 0)
  await sleep(2_000)
  for (const { cache } of [a, b])
    for (const [key, value] of Object.entries({ k1: 'v2', k2: undefined, k3: undefined, k4: 'v4' })) {
      const seen: unknown[] = []
      await until(async () => (seen.push(await cache.get(key)), seen.at(-1) === value))
      expect(seen.filter((one) => one !== undefined && one !== value)).toEqual([]) // what is not answered in time is a miss
    }
})

/** What a server that does not answer costs, and that it is used again. Costs are milliseconds: who measures tries again. */
async function outage(begin: (server: Server) => Promise<void> | void, end: (server: Server) => Promise<void> | void) {
  const { server, a, b } = await two({ l2TimeoutMs: 250 })
  await until(
    async () => (await a.cache.set('later', 'v')) === 'applied' && (await a.cache.set('k', 'v')) === 'applied',
  )
  await until(async () => (await b.cache.get('k')) === 'v')
  await begin(server)
  const waits: number[] = []
  for (let i = 0; i < 50; i++) {
    const began = performance.now()
    expect(await a.cache.getOrSet(`new ${i}`, loader('loaded'))).toBe('loaded')
    waits.push(performance.now() - began)
  }
  const began = performance.now()
  expect([await a.cache.delete('k'), await a.cache.set('later', 'set')]).toEqual(['queued', 'queued'])
  expect(performance.now() - began).toBeLessThan(750)
  expect(waits[0]).toBeLessThan(750) // one call waits, for its budget, ...
  expect(waits.toSorted((x, y) => x - y)[25]).toBeLessThan(25) // ... the others do not
  await end(server)
  await until(() => a.cache.stats().l2Up && a.cache.stats().queued === 0)
  await until(() => b.cache.stats().l2Up)
  await sleep(STALENESS_MS)
  expect(await b.cache.get('k')).toBeUndefined()
  expect(a.cache.stats().loadErrors).toBe(0)
  await until(async () => (await a.cache.set('after', 'it')) === 'applied')
  await until(async () => (await b.cache.get('after')) === 'it')
  return { a, b }
}

test('a server that stands still, then goes on', { retry: 2 }, async () => {
  const { b } = await outage(
    ({ pid }) => void process.kill(pid, 'SIGSTOP'),
    ({ pid }) => void process.kill(pid, 'SIGCONT'),
  )
  await until(async () => (await b.cache.get('later')) === 'set') // what was queued
})

test('a server that is killed, and comes back empty', { retry: 2 }, async () => {
  const { a, b } = await outage(
    ({ pid }) => void process.kill(pid, 'SIGKILL'),
    async ({ port }) => void (await servers.redis({ port })),
  )
  // Others may have changed it, or not: the store does not know any more, so nobody is told.
  expect([await a.cache.get('later'), await b.cache.get('later')]).toEqual([undefined, undefined])
})

test('a server that lost everything: what it lost is read nowhere for longer than the bound, and loads from before are not stored', async () => {
  const { server, a, b } = await two()
  await a.cache.set('k', 'old')
  expect(await b.cache.get('k')).toBe('old')
  let loaded: (value: string) => void = () => {}
  const slow = a.cache.getOrSet('slow', () => new Promise<string>((resolve) => (loaded = resolve)))
  const admin = connect(server.port)
  await until(() => a.cache.stats().loads === 1)
  await admin.flushall()
  loaded('before')
  await slow
  await sleep(STALENESS_MS)
  expect(await b.cache.get('slow')).toBeUndefined()
  expect([await a.cache.get('k'), await b.cache.get('k')]).toEqual([undefined, undefined])
})

test('state or tags that were evicted: entries count as lost, none comes back that was invalidated', async () => {
  const { server, a, b } = await two()
  const admin = connect(server.port)
  for (const evicted of ['*:}s', '*:}t0', '*:}t1']) {
    await a.cache.set('k', evicted, { tags: ['t'] })
    await a.cache.set('plain', evicted)
    const [name] = await admin.keys(evicted)
    await a.cache.invalidateTags('t')
    await admin.del(name!)
    expect(await b.cache.get('k')).toBeUndefined()
    await sleep(STALENESS_MS)
    expect(await a.cache.get('k')).toBeUndefined()
    expect(await a.cache.set('k', 'again', { tags: ['t'] })).toBe('applied')
    expect(await b.cache.get('k')).toBe('again')
  }
})

test('a fail-over to a replica: used at once, and what it had not heard of is found out', async () => {
  const { server, a, b } = await two()
  const other = await servers.redis()
  const [master, replica] = [connect(server.port), connect(other.port)]
  await master.config('SET', 'repl-diskless-sync-delay', 0) // else it waits 5 s for more replicas
  await replica.replicaof('127.0.0.1', server.port)
  await until(async () => (await replica.info('replication')).includes('master_link_status:up'))
  await a.cache.set('k', 'old')
  await until(async () => (await replica.dbsize()) === (await master.dbsize()))
  expect(await b.cache.get('k')).toBe('old')
  await replica.call('replicaof', 'no', 'one')
  for (const { commands, messages } of [a, b]) for (const line of [commands, messages]) line.lead(other.port)
  await until(async () => (await a.cache.delete('k')) === 'applied')
  expect(await a.cache.set('k', 'new')).toBe('applied')
  await sleep(STALENESS_MS)
  expect([await a.cache.get('k'), await b.cache.get('k')]).toEqual(['new', 'new'])
})

test('scripts that the server forgets are sent again', async () => {
  const { server, a, b } = await two()
  const admin = connect(server.port)
  for (let i = 0; i < 10; i++) {
    await admin.script('FLUSH')
    expect(await a.cache.set('k', String(i))).toBe('applied')
    await admin.script('FLUSH')
    expect(await b.cache.getOrSet(`load ${i}`, loader('loaded'))).toBe('loaded')
  }
  await until(async () => (await b.cache.get('k')) === '9')
})

test('four processes with 250 callers each make one load of a key', async () => {
  const server = await servers.redis()
  const prefix = `${randomUUID()}:`
  const keys = Array.from({ length: 5 }, (_, i) => `key ${i}`)
  const workers = Array.from({ length: 4 }, () => fork(program))
  onTestFinished(() => {
    for (const worker of workers) worker.kill('SIGKILL')
  })
  const told = <T>(): Promise<T[]> =>
    Promise.all(workers.map((worker) => new Promise<T>((resolve) => worker.once('message', (it) => resolve(it as T)))))
  await told<'ready'>()
  const outcomes = told<Outcome>()
  for (const worker of workers)
    worker.send({ port: server.port, prefix, keys, callers: 250, loadMs: 100 } satisfies Job)
  const all = await outcomes
  expect(all.reduce((sum, { loads }) => sum + loads, 0)).toBe(keys.length)
  expect(new Set(all.flatMap(({ values }) => values)).size).toBe(keys.length)
})

const changes: Record<string, (cache: Member['cache'], key: string) => Promise<unknown>> = {
  delete: (cache, key) => cache.delete(key),
  set: (cache, key) => cache.set(key, 'new', { tags: [key] }),
  invalidateTags: (cache, key) => cache.invalidateTags(key),
  expire: (cache, key) => cache.expire({ keys: [key] }),
  clear: (cache) => cache.clear(),
}
const ends = ['before it', 'while it is under way', 'after it', 'during the next load', 'after the next load'] as const

test.each(Object.keys(changes))(
  'changes in the middle of loads (%s): none is followed by what was there before',
  async (kind) => {
    const { server, prefix, a, b } = await two()
    const { cache: looking } = await member(server, prefix, { l1: false }) // sees what the second level holds
    const afresh = loader('new')
    for (const end of ends) {
      for (const loading of [[a], [b], [a, b], [b, a]]) {
        const key = `${end} ${loading.map((one) => (one === a ? 'a' : 'b')).join('')}`
        let begun = 0
        const hold = gate()
        let origin = 'old'
        const load = async (): Promise<string> => {
          const value = origin
          if (++begun === 1) await hold.passed // the next one must not wait: others may wait for it
          return value
        }
        const loads = loading.map(({ cache }) => cache.getOrSet(key, load, { tags: [key] }))
        await until(() => begun > 0)
        origin = 'new'
        if (end === 'before it') hold.open()
        const changed = changes[kind]!(a.cache, key)
        if (end === 'while it is under way') hold.open()
        expect(await changed).toBe('applied')
        if (end === 'after the next load') expect(await a.cache.getOrSet(key, afresh, { tags: [key] })).toBe('new')
        if (end === 'during the next load') {
          const holdNext = gate()
          let isUnderWay = false
          const slow = async (): Promise<string> => {
            isUnderWay = true
            await holdNext.passed
            return 'new'
          }
          const next = a.cache.getOrSet(key, slow, { tags: [key] }).finally(() => (isUnderWay = true))
          await until(() => isUnderWay)
          hold.open()
          await Promise.race(loads) // what it brought has been offered to the second level
          holdNext.open()
          expect(await next).toBe('new')
        }
        hold.open()
        await Promise.all(loads)
        expect(await a.cache.get(key), `${key}: by its own process`).not.toBe('old')
        expect(await looking.getOrSet(key, afresh, { tags: [key] }), `${key}: in the second level`).toBe('new')
        expect(await a.cache.getOrSet(key, afresh, { tags: [key] }), `${key}: by its own process`).toBe('new')
        await until(async () => (await b.cache.getOrSet(key, afresh, { tags: [key] })) === 'new')
      }
    }
  },
)
