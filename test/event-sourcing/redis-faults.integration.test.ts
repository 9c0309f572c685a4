import { randomUUID } from 'node:crypto'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import { subscribe, type Recorded } from '../../src/event-sourcing/index.js'
import { RedisCheckpoints, RedisEventStore } from '../../src/event-sourcing/redis.js'
import { systemClock } from '../../src/kernel/clock.js'
import { seededRandom } from '../../src/testing/index.js'
import { connect } from '../support/redis.js'

// A real Redis whose connections are cut, that is killed and comes back, is full, read only, or has lost something.

const servers = new Servers()
afterAll(() => servers.stop())

/** A master that does not wait for more replicas before it answers one: by default it does for 5 s. */
const PROMPT = { 'repl-diskless-sync-delay': '0' }

test('writers and readers while clients are cut off and the server is killed: 0 skipped, 0 doubled, in order', async () => {
  const durable = { appendonly: 'yes', appendfsync: 'always' } // so that what was answered is there after a kill -9
  let server = await servers.redis(durable)
  const { port } = server
  const namespace = randomUUID()
  const random = seededRandom(7)
  const stopped = new AbortController()
  let written = false

  const made = new Set<string>()
  const uncertain = new Set<string>()
  const writers = Array.from({ length: 8 }, async (_, writer) => {
    const store = new RedisEventStore(connect(port), { namespace })
    for (let i = 0; !stopped.signal.aborted; i++) {
      const ids = Array.from({ length: 1 + (i % 3) }, (__, n) => `${writer}-${i}-${n}`)
      const events = ids.map((id) => ({ type: 'e', data: id, id, tags: [`w${writer}`] }))
      const answer = store.append(`s${Math.floor(random() * 12)}`, events)
      // oxlint-disable-next-line no-await-in-loop -- each writer waits for its answer
      await answer.then(
        () => ids.forEach((id) => made.add(id)),
        (error: { code: string }) => {
          expect(error.code).toBe('STORE_FAILED')
          ids.forEach((id) => uncertain.add(id))
        },
      )
    }
  })

  const read = async (query?: { items: { tags: string[] }[] }): Promise<Recorded[]> => {
    const store = new RedisEventStore(connect(port), { namespace })
    const seen: Recorded[] = []
    for (let after = 0; ;) {
      const isLast = written // asked before the page is: what it holds is then all there is
      try {
        // oxlint-disable-next-line no-await-in-loop
        const { events, next, head } = await store.readPage({ after, limit: 50, query })
        seen.push(...events)
        after = next
        if (isLast && next === head) return seen
        if (events.length === 0) await systemClock.sleep(1) // oxlint-disable-line no-await-in-loop
      } catch (error) {
        expect(error).toMatchObject({ code: 'STORE_FAILED' })
      }
    }
  }
  const readers = [read(), read(), read({ items: [{ tags: ['w3'] }] })]
  const handled: string[] = []
  const subscription = subscribe(
    new RedisEventStore(connect(port), { namespace }),
    new RedisCheckpoints(connect(port), { namespace }),
    'n',
    (event) => void handled.push(event.id),
    { pollMs: 20 },
  )
  subscription.on('error', () => {})
  onTestFinished(() => subscription.stop())

  const admin = connect(port)
  for (let i = 0; i < 30; i++) {
    await systemClock.sleep(80)
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes').catch(() => {})
    if (i % 15 !== 7) continue
    process.kill(server.pid, 'SIGKILL')
    await systemClock.sleep(100)
    server = await servers.redis({ ...durable, port })
  }
  await expect.poll(() => made.size).toBeGreaterThan(200)
  stopped.abort()
  await Promise.all(writers)
  written = true
  const [log, other, tagged] = (await Promise.all(readers)) as [Recorded[], Recorded[], Recorded[]]

  expect(log.map((event) => event.position)).toEqual(log.map((_, i) => i + 1))
  expect(other).toEqual(log)
  expect(tagged).toEqual(log.filter((event) => event.tags?.includes('w3')))
  const ids = log.map((event) => event.id)
  expect(new Set(ids).size).toBe(ids.length)
  expect([...made].filter((id) => !ids.includes(id))).toEqual([])
  expect(ids.filter((id) => !made.has(id) && !uncertain.has(id))).toEqual([])
  const store = new RedisEventStore(connect(port), { namespace })
  for (let i = 0; i < 12; i++) {
    const stream: Recorded[] = []
    for await (const event of store.read(`s${i}`)) stream.push(event)
    expect(stream).toEqual(log.filter((event) => event.streamId === `s${i}`))
    expect(stream.map((event) => event.version)).toEqual(stream.map((_, n) => n + 1))
  }
  await subscription.reached(log.length, 20_000)
  expect([...new Set(handled)]).toEqual(ids) // at least once, first in order
})

const e = (id: string): { type: string; data: string } => ({ type: 'e', data: id })

test('a full server refuses appends with StoreError, writes nothing of them, and goes on when there is room', async () => {
  const { port } = await servers.redis({ 'maxmemory-policy': 'noeviction' })
  const client = connect(port)
  const store = new RedisEventStore(client)
  await store.append('s', [e('a')])
  await client.config('SET', 'maxmemory', '1mb')
  const refused = { code: 'STORE_FAILED', cause: { message: expect.stringMatching(/^OOM/) as string } }
  await expect(store.append('s', [e('b')])).rejects.toMatchObject(refused)
  await expect(store.appendAll([{ events: [e('b')] }, { stream: 's', events: [e('b')] }])).rejects.toMatchObject(
    refused,
  )
  expect(await store.info('s')).toEqual({ version: 1, first: 1, state: 'live' })
  expect((await store.readPage()).events.map((event) => event.data)).toEqual(['a'])
  await client.config('SET', 'maxmemory', '0')
  expect(await store.append('s', [e('c')], { expectedVersion: 1 })).toMatchObject({ version: 2, position: 2 })
})

test('a server that has become a replica refuses appends with StoreError, and is read', async () => {
  const [{ port }, other] = [await servers.redis(PROMPT), await servers.redis()]
  const client = connect(port)
  const store = new RedisEventStore(client)
  await store.append('s', [e('a')])
  const replica = connect(other.port)
  await replica.call('REPLICAOF', '127.0.0.1', port)
  while (!(await replica.info('replication')).includes('master_link_status:up')) await systemClock.sleep(20)
  const onReplica = new RedisEventStore(replica)
  await expect(onReplica.append('s', [e('b')])).rejects.toMatchObject({
    code: 'STORE_FAILED',
    cause: { message: expect.stringMatching(/^READONLY/) as string },
  })
  expect((await onReplica.readPage()).events.map((event) => event.data)).toEqual(['a'])
})

test('a replica that takes over without the last events: a reader that is ahead of it is told, and does not wait', async () => {
  const [{ port }, other] = [await servers.redis(PROMPT), await servers.redis()]
  const [store, replica] = [new RedisEventStore(connect(port)), connect(other.port)]
  await replica.call('REPLICAOF', '127.0.0.1', port)
  await store.append('s', [e('a')])
  while ((await replica.call('HGET', '{holdfast:{events}:}h', 'head')) === '' || (await replica.dbsize()) === 0)
    await systemClock.sleep(20)
  await replica.call('REPLICAOF', 'NO', 'ONE')
  const { position } = await store.append('s', [e('b'), e('c')])
  const promoted = new RedisEventStore(replica)
  expect(await promoted.append('s', [e('d')])).toMatchObject({ position: 2 })
  await expect(promoted.readPage({ after: position })).rejects.toMatchObject({
    code: 'CORRUPT_DATA',
    message: 'position 3 is beyond the end of the log, 2',
  })
  const unless = { query: { items: [{ types: ['e'] }] }, after: position }
  await expect(promoted.append('s', [e('f')], { unless })).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
})

test('what was evicted or deleted by hand is noticed: nothing is gone on with, nothing skipped in silence', async () => {
  const { port } = await servers.redis()
  const client = connect(port)
  for (const gone of ['h', 'log', 's:s']) {
    await client.flushall()
    const store = new RedisEventStore(client, { namespace: '{n}' })
    await store.append('s', [e('a'), e('b')])
    await client.del(`{n}${gone}`)
    const lost = { code: 'CORRUPT_DATA', message: expect.stringMatching(/^Redis has lost/) as string }
    await expect(store.append('s', [e('c')]), gone).rejects.toMatchObject(lost)
    await expect(store.readPage(), gone).rejects.toMatchObject(lost)
    if (gone === 'log') continue // the streams are whole
    const reading = (async () => {
      for await (const event of store.read('s')) expect(event).toBeUndefined()
    })()
    await expect(reading, gone).rejects.toMatchObject(lost)
  }
})
