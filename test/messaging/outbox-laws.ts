import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { transaction, type SqlDatabase, type SqlQueryable } from '../../src/kernel/postgres.js'
import { BacklogFullError, MemoryEventBus, type EventBus, type Message } from '../../src/messaging/index.js'
import type { OutboxRelay, PostgresOutbox, PostgresOutboxOptions, RelayOptions } from '../../src/messaging/postgres.js'
import { openOutbox } from './database.js'

/** A bus that keeps what it is given, and can refuse. */
export class Recorder implements Pick<EventBus, 'publish'> {
  readonly taken: Message[] = []
  readonly batches: number[] = []
  refuse: (messages: readonly Message[]) => unknown = () => undefined

  async publish(messages: unknown): Promise<void> {
    const all = [messages].flat() as Message[]
    const error: unknown = await this.refuse(all)
    if (error !== undefined) throw error as Error
    this.taken.push(...all)
    this.batches.push(all.length)
  }

  get ids(): string[] {
    return this.taken.map(({ id }) => id)
  }

  async until(count: number): Promise<void> {
    await expect.poll(() => this.taken.length, { interval: 5 }).toBeGreaterThanOrEqual(count)
  }
}

/** What holds for an outbox in any database. */
export function outboxLaws(adapter: string, db: () => SqlDatabase): void {
  const open = async (options: PostgresOutboxOptions = {}) => {
    const opened = await openOutbox(db(), options)
    onTestFinished(opened.drop)
    const relays: OutboxRelay[] = []
    onTestFinished(async () => void (await Promise.all(relays.map((relay) => relay.close()))))
    const relay = (bus: Pick<EventBus, 'publish'>, more: RelayOptions = {}): OutboxRelay => {
      const made = opened.outbox.relay(bus, { leaseMs: 2_000, pollMs: 50, ...more })
      relays.push(made)
      return made
    }
    return { ...opened, relay }
  }
  const put = (outbox: PostgresOutbox, ...ids: string[]): Promise<void> =>
    transaction(db(), (tx) =>
      outbox.put(
        tx,
        ids.map((id) => ({ id, type: 't', key: 'k', data: id })),
      ),
    )
  const law = (name: string, check: () => Promise<void>): void => test(`${adapter}: ${name}`, check)

  law('a message arrives whole: all of its parts, any strings, any data', async () => {
    const { outbox, relay } = await open()
    const bus = new Recorder()
    const odd = ['a\0b', '\ud800', '\ufeffx', '\\', "'", 'x'.repeat(60_000)]
    const messages = odd.map((text, i) => ({
      ...{ id: text, type: text, key: i === 0 ? '' : text, occurredAt: new Date(1_000 + i) },
      ...{ data: { text, at: new Date(5), big: 7n, map: new Map([[1, 'a']]) }, headers: { traceparent: text } },
    }))
    await transaction(db(), (tx) => outbox.put(tx, messages))
    await transaction(db(), (tx) => outbox.put(tx, { type: 'keyless', data: null }))
    relay(bus)
    await bus.until(7)
    const byType = new Map(bus.taken.map((message) => [message.type, message]))
    for (const message of messages) expect(byType.get(message.type)).toStrictEqual(message)
    expect(byType.get('keyless')).toMatchObject({ headers: {}, data: null })
    expect(byType.get('keyless')).not.toHaveProperty('key')
  })

  law(
    'nothing of a transaction, or of a savepoint, that was rolled back is published; what is published is deleted',
    async () => {
      const { outbox, relay, schema } = await open()
      const bus = new Recorder()
      relay(bus)
      const gone = transaction(db(), async (tx) => {
        await outbox.put(tx, { id: 'gone', type: 't', key: 'k', data: 1 })
        throw new Error('no')
      })
      await expect(gone).rejects.toThrow('no')
      await transaction(db(), async (tx) => {
        await outbox.put(tx, { id: 'a', type: 't', key: 'k', data: 1 })
        await tx.query('savepoint one')
        await outbox.put(tx, { id: 'undone', type: 't', key: 'other', data: 1 })
        await tx.query('rollback to savepoint one')
        await outbox.put(tx, { id: 'b', type: 't', key: 'k', data: 1 })
      })
      await transaction(db(), async (tx) => {
        await tx.query('savepoint one')
        await outbox.put(tx, { id: 'undone', type: 't', key: 'k', data: 1 })
        await tx.query('rollback to savepoint one')
        await outbox.put(tx, [])
      })
      await put(outbox, 'c')
      await bus.until(3)
      await expect.poll(() => tablesOf(db(), schema)).toEqual({ outbox_messages: 0, outbox_commits: 0 })
      expect(bus.ids).toEqual(['a', 'b', 'c'])
      expect(await outbox.stats()).toEqual({ waiting: 0, parked: 0, lagMs: 0 })
    },
  )

  law('many messages of one transaction keep their order, and any number of them is deleted', async () => {
    const { outbox, relay, schema } = await open()
    const bus = new Recorder()
    const ids = Array.from({ length: 2_600 }, (_, i) => `m${i}`)
    await transaction(db(), async (tx) => {
      await outbox.put(
        tx,
        ids.slice(0, 2_500).map((id, i) => ({ id, type: 't', key: `k${i % 100}`, data: 1 })),
      )
      for (const [i, id] of ids.slice(2_500).entries()) await outbox.put(tx, { id, type: 't', key: `k${i}`, data: 1 })
    })
    expect((await outbox.stats()).waiting).toBe(2_600)
    relay(bus, { batchSize: 70 })
    await bus.until(2_600)
    await expect.poll(() => tablesOf(db(), schema)).toEqual({ outbox_messages: 0, outbox_commits: 0 })
    expect(bus.ids.toSorted()).toEqual(ids.toSorted())
    expect(Math.max(...bus.batches)).toBeLessThanOrEqual(70)
    expectOrder(bus.taken, (id) => Number(id.slice(1)))
  })

  law(
    'after SET CONSTRAINTS … IMMEDIATE, messages that are put later in the transaction are published too',
    async () => {
      const { outbox, relay } = await open()
      const bus = new Recorder()
      relay(bus)
      await transaction(db(), async (tx) => {
        await outbox.put(tx, { id: 'a', type: 't', key: 'k', data: 1 })
        await tx.query('set constraints all immediate')
        await outbox.put(tx, { id: 'b', type: 't', key: 'k', data: 1 })
        await outbox.put(tx, { id: 'c', type: 't', key: 'l', data: 1 })
      })
      await bus.until(3)
      expect(bus.ids).toEqual(['a', 'b', 'c'])
    },
  )

  law('a message that the bus will never take is parked with its reason, and blocks no other', async () => {
    const { outbox, relay, schema } = await open()
    const bus = new MemoryEventBus<Record<string, unknown>>({ schema: { bad: never }, unrouted: 'reject' })
    const seen: string[] = []
    await bus.subscribe({ group: 'g', types: ['t', 'bad'], handle: ({ id }) => void seen.push(id) })
    const events: unknown[] = []
    const ids = Array.from({ length: 20 }, (_, i) => `m${i}`)
    await transaction(db(), (tx) =>
      outbox.put(
        tx,
        ids.map((id, i) => ({ id, type: i === 7 ? 'bad' : i === 13 ? 'nobody' : 't', key: 'k', data: i })),
      ),
    )
    const running = relay(bus)
    running.on('parked', ({ id, type }) => events.push([id, type]))
    await expect.poll(() => seen.length).toBe(18)
    expect(seen).toEqual(ids.filter((_, i) => i !== 7 && i !== 13))
    expect(events).toEqual([
      ['m7', 'bad'],
      ['m13', 'nobody'],
    ])
    const parked = await outbox.parked.list()
    expect(parked.map(({ id, reason, message }) => [id, reason.code, message.data])).toEqual([
      ['m7', 'INVALID_PAYLOAD', 7],
      ['m13', 'UNROUTED', 13],
    ])
    expect(Date.now() - parked[0]!.parkedAt.getTime()).toBeLessThan(60_000)
    expect(await outbox.stats()).toMatchObject({ parked: 2 })
    await bus.subscribe({ group: 'h', types: ['nobody'], handle: ({ id }) => void seen.push(id) })
    await outbox.parked.requeue('m13')
    await expect.poll(() => seen.at(-1)).toBe('m13')
    await outbox.parked.drop('m7')
    await expect(outbox.parked.drop('m7')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(outbox.parked.requeue('m7')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect.poll(() => tablesOf(db(), schema)).toEqual({ outbox_messages: 0, outbox_commits: 0 })
    await bus.close()
  })

  law('a bus that is full or gone is waited for: nothing is lost, nothing is parked, order is kept', async () => {
    const { outbox, relay } = await open()
    const bus = new Recorder()
    let refusals = 0
    bus.refuse = () => (++refusals > 3 ? undefined : refusals === 1 ? new Error('gone') : new BacklogFullError('g', 1))
    const failed: unknown[] = []
    relay(bus, { backoff: () => 10 }).on('failed', ({ what, retryInMs }) => failed.push([what, retryInMs]))
    await put(outbox, 'a', 'b')
    await put(outbox, 'c')
    await bus.until(3)
    expect(bus.ids).toEqual(['a', 'b', 'c'])
    expect(failed).toEqual([
      ['publish', 10],
      ['publish', 10], // of one message: how many there is room for is found out at once
    ])
    expect(await outbox.parked.list()).toEqual([])
  })

  law('more messages than the bus has room for come as there is room', async () => {
    const { outbox, relay } = await open()
    const bus = new MemoryEventBus({ maxBacklog: 3 })
    const seen: string[] = []
    await bus.subscribe({ group: 'g', types: '*', handle: ({ id }) => void seen.push(id) })
    const ids = Array.from({ length: 20 }, (_, i) => `m${i}`)
    await put(outbox, ...ids)
    relay(bus, { backoff: () => 1 })
    await expect.poll(() => seen, { timeout: 10_000 }).toEqual(ids)
    await bus.close()
  })

  law('a message that can no longer be read is parked, and the others are published and listed', async () => {
    const { outbox, relay, schema } = await open()
    const bus = new Recorder()
    await transaction(db(), (tx) =>
      outbox.put(tx, [
        { id: 'a', type: 't', key: 'k', data: new Date(0) },
        { id: 'b', type: 't', key: 'k', data: 1 },
      ]),
    )
    await db().query(`update "${schema}".outbox_messages set text = replace(text, 'Date', 'Of a newer version')`)
    relay(bus)
    await bus.until(1)
    expect(bus.ids).toEqual(['b'])
    expect(await outbox.parked.list()).toMatchObject([
      { id: 'a', reason: { code: 'CORRUPT_DATA' }, message: { type: 't', key: 'k', data: undefined, headers: {} } },
    ])
  })

  law(
    'a publish that never settles is tried again; what it does late is one delivery more, never the first',
    async () => {
      const { outbox, relay } = await open()
      const bus = new Recorder()
      let release: (value?: unknown) => void = () => {}
      let isFirst = true
      bus.refuse = () => {
        if (!isFirst) return undefined
        isFirst = false
        return new Promise((resolve) => (release = resolve))
      }
      const failed: unknown[] = []
      relay(bus, { publishTimeoutMs: 30, backoff: () => 1 }).on('failed', ({ what, error }) =>
        failed.push([what, error]),
      )
      await put(outbox, 'a', 'b')
      await bus.until(2)
      expect(failed[0]).toMatchObject(['publish', { code: 'TIMEOUT', timeoutMs: 30 }])
      await put(outbox, 'c')
      await bus.until(3)
      release()
      await bus.until(5)
      expect(bus.ids.slice(0, 3)).toEqual(['a', 'b', 'c'])
      expect(bus.ids.slice(-2)).toEqual(['a', 'b'])
    },
  )

  law('a publish that succeeds after its time is over counts: a slow bus gets on', async () => {
    const { outbox, relay, schema } = await open()
    const bus = new Recorder()
    let release: (value?: unknown) => void = () => {}
    bus.refuse = () => new Promise((resolve) => (release = resolve))
    let failures = 0
    relay(bus, { publishTimeoutMs: 20, backoff: () => 600_000 }).on('failed', () => failures++)
    await put(outbox, 'a', 'b')
    await expect.poll(() => failures, { timeout: 10_000 }).toBe(1)
    release()
    await expect
      .poll(() => tablesOf(db(), schema), { timeout: 10_000 })
      .toEqual({ outbox_messages: 0, outbox_commits: 0 })
    expect(bus.ids).toEqual(['a', 'b'])
  })

  law('a partition that is to be given, and then is not, loses no message', async () => {
    const { outbox, relay, schema } = await open({ partitions: 2 })
    const bus = new Recorder()
    const gates: (() => void)[] = []
    bus.refuse = () => new Promise<void>((resolve) => gates.push(resolve))
    const leaseMs = 1_000
    /** When the first relay has asked twice more, and so knows of who is there. */
    const asked = async (): Promise<void> => {
      const read = async (): Promise<number> => {
        const { rows } = await db().query(`select max(until)::float8 as until from "${schema}".outbox_partitions`)
        return (rows[0] as { until: number }).until
      }
      for (let i = 0; i < 2; i++) {
        const before = await read()
        await expect.poll(read, { timeout: 10_000, interval: 5 }).toBeGreaterThan(before)
      }
    }
    const ids = Array.from({ length: 40 }, (_, i) => `m${i}`)
    for (const id of ids) await transaction(db(), (tx) => outbox.put(tx, { id, type: 't', key: id, data: id }))
    relay(bus, { leaseMs, batchSize: 8, publishTimeoutMs: 60_000 })
    await expect.poll(() => gates.length, { timeout: 10_000 }).toBe(1)
    const other = relay(new Recorder(), { leaseMs })
    await asked()
    gates[0]!()
    await expect.poll(() => gates.length, { timeout: 10_000 }).toBe(2) // what it reads now is of one partition
    await other.close()
    await asked()
    bus.refuse = () => undefined
    gates[1]!()
    await bus.until(40)
    expect(new Set(bus.ids)).toEqual(new Set(ids))
  })

  law('close waits for the batch that is being published, and another relay goes on', async () => {
    const { outbox, relay } = await open()
    const bus = new Recorder()
    bus.refuse = () => sleep(50)
    const first = relay(bus, { batchSize: 1 })
    await put(outbox, 'a', 'b', 'c')
    await bus.until(1)
    await first.close()
    const { length } = bus.taken
    expect(length).toBeLessThan(3)
    expect(first.partitions).toEqual([])
    await sleep(120)
    expect(bus.ids).toHaveLength(length)
    relay(bus)
    await bus.until(3)
    expect(bus.ids).toEqual(['a', 'b', 'c']) // and what the first had published does not come again
  })

  law('close does not wait longer than its grace time for a bus that never answers', async () => {
    const { outbox, relay } = await open()
    const bus = new Recorder()
    let asked = false
    bus.refuse = () => {
      asked = true
      return new Promise(() => {})
    }
    const running = relay(bus, { graceMs: 30 })
    await put(outbox, 'a')
    await expect.poll(() => asked).toBe(true)
    await running.close()
    const after = new Recorder()
    relay(after)
    await after.until(1)
  })
}

/** A Standard Schema that nothing fits. */
const never = {
  '~standard': { version: 1, vendor: 'test', validate: () => ({ issues: [{ message: 'does not fit' }] }) },
} as const

/** How many rows each of its tables has. */
export async function tablesOf(db: SqlQueryable, schema: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const table of ['outbox_messages', 'outbox_commits']) {
    const { rows } = await db.query(`select count(*)::int as n from "${schema}".${table}`)
    counts[table] = (rows[0] as { n: number }).n
  }
  return counts
}

/** First deliveries of each key come in the order of `numberOf`. */
export function expectOrder(messages: readonly Message[], numberOf: (id: string) => number): void {
  const last = new Map<string | undefined, number>()
  const seen = new Set<string>()
  for (const { id, key } of messages) {
    if (seen.has(id)) continue
    seen.add(id)
    const number = numberOf(id)
    expect(number, `${id} of ${key}`).toBeGreaterThan(last.get(key) ?? -1)
    last.set(key, number)
  }
}
