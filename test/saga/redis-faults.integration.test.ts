import { afterAll, expect, onTestFinished, test } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import { systemClock } from '../../src/kernel/clock.js'
import { saga, SagaOrchestrator, signal, type StoredSaga } from '../../src/saga/index.js'
import { RedisSagaStore } from '../../src/saga/redis.js'
import { Proxy } from '../support/proxy.js'
import { connect } from '../support/redis.js'

// A real Redis whose connections are cut, that is killed and comes back, is full, forgets its scripts, or is followed by a replica.

const servers = new Servers()
afterAll(() => servers.stop())

const open = (port: number): RedisSagaStore => new RedisSagaStore(connect(port), { subscriber: connect(port) })
const doneOf = ({ journal }: StoredSaga): string[] =>
  journal.flatMap(({ entries }) => entries).flatMap((entry) => (entry.type === 'done' ? [entry.path] : []))
const started = (options: ConstructorParameters<typeof SagaOrchestrator>[0]): SagaOrchestrator => {
  const orchestrator = new SagaOrchestrator({ leaseMs: 600, ...options })
  orchestrator.start()
  onTestFinished(() => orchestrator.close())
  return orchestrator
}

/** Three steps, of which the last fails for every fifth, so that the first two are undone. */
const work = (runs: Map<string, number>) => {
  const run = async ({ key, input }: { key: string; input: number }, fails = false): Promise<string> => {
    await systemClock.sleep(5)
    runs.set(key, (runs.get(key) ?? 0) + 1)
    if (fails && input % 5 === 0) throw new Error('no')
    return key
  }
  return saga<number>('work', { version: 1 })
    .step('a', { run: (c) => run(c), compensate: (c) => void run(c) })
    .step('b', { run: (c) => run(c), compensate: (c) => void run(c) })
    .step('c', { run: (c) => run(c, true) })
    .build()
}

test('sagas while clients are cut off, scripts forgotten and the server killed: all end, each step recorded once', async () => {
  const durable = { appendonly: 'yes', appendfsync: 'always' } // so that what was answered is there after a kill -9
  let server = await servers.redis(durable)
  const { port } = server
  const definition = work(new Map())
  const orchestrators = [1, 2].map(() => started({ store: open(port), sagas: [definition] }))
  const ids: string[] = []
  const stopped = new AbortController()
  const creating = (async () => {
    for (let i = 0; !stopped.signal.aborted; i++) {
      const id = `s${i}`
      await orchestrators[i % 2]!.run(definition, i, { id }).then(
        () => ids.push(id),
        (error: unknown) => expect(error).toMatchObject({ code: 'STORE_FAILED' }),
      )
      await systemClock.sleep(5)
    }
  })()
  const admin = connect(port)
  for (let i = 0; i < 24; i++) {
    await systemClock.sleep(100)
    const type = i % 2 === 0 ? 'normal' : 'pubsub'
    await admin.call('CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes').catch(() => {})
    if (i % 3 === 0) await admin.script('FLUSH').catch(() => {})
    if (i % 12 !== 7) continue
    process.kill(server.pid, 'SIGKILL')
    await systemClock.sleep(100)
    server = await servers.redis({ ...durable, port })
  }
  await expect.poll(() => ids.length).toBeGreaterThan(50)
  stopped.abort()
  await creating
  const store = open(port)
  const unfinished = async (): Promise<number> => (await store.list({ stuckForMs: 0, limit: 10_000 })).length
  await expect.poll(unfinished, { interval: 100 }).toBe(0)
  for (const id of ids) {
    const found = (await store.read(id))!
    const fails = Number(id.slice(1)) % 5 === 0
    expect([id, found.status, doneOf(found)]).toEqual(
      fails ? [id, 'compensated', ['a', 'b']] : [id, 'completed', ['a', 'b', 'c']],
    )
  }
})

// Milliseconds are measured: on a machine with more to do than it can, another try may do.
test('a line that is cut holds nobody up for longer than the lease of the one behind it', { retry: 2 }, async () => {
  const { port } = await servers.redis()
  const proxy = await Proxy.to(port)
  onTestFinished(() => proxy.close())
  let starts = 0
  let hold: Promise<void> | undefined = new Promise(() => {})
  const definition = saga<number>('held', { version: 1 })
    .step('a', { run: async ({ key, fence }) => (starts++, await hold, `${key} ${fence}`) })
    .build()
  const cutOff = started({ store: open(proxy.port), sagas: [definition], graceMs: 0 })
  const handle = await cutOff.run(definition, 1, { id: 'a' })
  await expect.poll(() => starts).toBe(1)
  proxy.set('cut')
  hold = undefined
  const other = started({ store: open(port), sagas: [definition] })
  const beganAt = performance.now()
  await expect.poll(() => other.get('a')).toMatchObject({ status: 'completed' })
  expect(performance.now() - beganAt).toBeLessThan(600 + 1_000)
  proxy.set('open')
  expect(await handle.settled({ signal: AbortSignal.timeout(30_000) })).toMatchObject({ status: 'completed' })
  expect(starts).toBe(2)
})

test('a server that comes back empty: whoever waits is told that the saga is gone, and new ones run', async () => {
  let server = await servers.redis()
  const { port } = server
  const go = signal<number>('go')
  const waiting = saga<number>('waiting', { version: 1 }).waitFor('go', go).build()
  const running = saga<number>('running', { version: 1 })
    .step('a', {
      run: ({ signal: stop }) => new Promise((resolve) => stop.addEventListener('abort', () => resolve(1))),
    })
    .build()
  const quick = saga<number>('quick', { version: 1 })
    .step('a', { run: () => 7 })
    .build()
  const sagas = [waiting, running, quick]
  const orchestrator = started({ store: open(port), sagas })
  const polling = started({ store: new RedisSagaStore(connect(port)), sagas, pollMs: 100 })
  const handles = [
    await orchestrator.run(waiting, 1, { id: 'w' }),
    await orchestrator.run(running, 1, { id: 'r' }),
    await polling.run(waiting, 1, { id: 'w' }),
  ]
  const ends = handles.map((handle) => handle.settled({ signal: AbortSignal.timeout(30_000) }))
  const gone = Promise.all(ends.map((end) => expect(end).rejects.toMatchObject({ code: 'NOT_FOUND' })))
  await systemClock.sleep(200)
  process.kill(server.pid, 'SIGKILL')
  await systemClock.sleep(50)
  server = await servers.redis({ port })
  await gone
  await expect(orchestrator.signal('w', go, 1)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  const handle = await orchestrator.run(quick, 1, { id: 'w' })
  expect(await handle.settled({ signal: AbortSignal.timeout(30_000) })).toMatchObject({ status: 'completed' })
})

test('a full server refuses writes with StoreError, keeps nothing of them, and sagas go on when there is room', async () => {
  const { port } = await servers.redis({ 'maxmemory-policy': 'noeviction' })
  const admin = connect(port)
  const store = open(port)
  const definition = saga<number>('full', { version: 1 })
    .step('a', { run: () => admin.config('SET', 'maxmemory', '1mb').then(() => 1) })
    .step('b', { run: () => 2 })
    .build()
  const orchestrator = started({ store, sagas: [definition], leaseMs: 5_000 })
  const refusals: unknown[] = []
  orchestrator.on('error', ({ error }) => refusals.push(error))
  const handle = await orchestrator.run(definition, 1, { id: 'a' })
  const refused = { code: 'STORE_FAILED', cause: { message: expect.stringMatching(/OOM/) as string } }
  await expect.poll(() => refusals).toContainEqual(expect.objectContaining({ code: 'STORE_FAILED' }))
  const before = await admin.call('HGETALL', '{holdfast:{saga}:}s:a')
  const message = { sagaId: 'a', kind: 'signal', name: 's', payload: '1' } as const
  await expect(store.deliver(message)).rejects.toMatchObject(refused)
  await expect(orchestrator.run(definition, 1, { id: 'b' })).rejects.toMatchObject(refused)
  expect(await admin.call('HGETALL', '{holdfast:{saga}:}s:a')).toEqual(before)
  expect(await store.list({ limit: 10 })).toHaveLength(1)
  await admin.config('SET', 'maxmemory', '0')
  expect(await handle.settled({ signal: AbortSignal.timeout(30_000) })).toMatchObject({ status: 'completed' })
})

test('a replica that takes over without the last claim: the one who had it stops, and the saga is recorded once', async () => {
  const [master, other] = [await servers.redis({ 'repl-diskless-sync-delay': '0' }), await servers.redis()]
  const proxy = await Proxy.to(master.port)
  onTestFinished(() => proxy.close())
  const replica = connect(other.port)
  await replica.call('REPLICAOF', '127.0.0.1', master.port)
  const bodies: { key: string; fence: number; open: () => void }[] = []
  const definition = saga<number>('moved', { version: 1 })
    .step('a', {
      run: ({ key, fence }) => new Promise<string>((resolve) => bodies.push({ key, fence, open: () => resolve(key) })),
    })
    .build()
  const first = new SagaOrchestrator({ store: open(proxy.port), sagas: [definition], leaseMs: 20_000, graceMs: 0 })
  onTestFinished(() => first.close())
  const lost: string[] = []
  first.on('lost', ({ id }) => lost.push(id))
  await first.run(definition, 1, { id: 'a' })
  const found = new RedisSagaStore(replica)
  await expect.poll(() => found.read('a').catch(() => undefined)).toBeDefined()
  await replica.call('REPLICAOF', 'NO', 'ONE')
  first.start()
  await expect.poll(() => bodies).toHaveLength(1)
  proxy.lead(other.port)
  const second = started({ store: open(other.port), sagas: [definition], leaseMs: 20_000 })
  await expect.poll(() => bodies).toHaveLength(2)
  expect(bodies[0]).toMatchObject({ key: bodies[1]!.key, fence: bodies[1]!.fence }) // the limit: only the key tells
  bodies[0]!.open()
  await expect.poll(() => lost).toEqual(['a'])
  expect((await second.get('a'))?.status).toBe('running')
  bodies[1]!.open()
  await expect.poll(() => second.get('a')).toMatchObject({ status: 'completed' })
  expect(doneOf((await found.read('a'))!)).toEqual(['a'])
})
