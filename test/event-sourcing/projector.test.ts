import { expect, onTestFinished, test } from 'vitest'
import {
  MemoryEventStore,
  MemoryProjector,
  type Event,
  type MemoryTransaction,
  type Projection,
  type Subscription,
} from '../../src/event-sourcing/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'

type Counted = Event<'e' | 'other', number>
const e = (data: number, type: Counted['type'] = 'e'): Counted => ({ type, data })

function open() {
  const clock = new ManualClock()
  const store = new MemoryEventStore<Counted>({ clock })
  const projector = new MemoryProjector(store, { clock })
  const started: Subscription[] = []
  const stopAll = async (): Promise<void> => {
    const stopped = Promise.all(started.map((subscription) => subscription.stop()))
    await clock.advance(60_000)
    await stopped
  }
  onTestFinished(async () => {
    await stopAll()
    expect(clock.pendingTimers).toBe(0)
  })
  const keep = <S extends Subscription>(subscription: S): S => {
    started.push(subscription)
    return subscription
  }
  const append = async (...data: number[]) =>
    (
      await store.append(
        's',
        data.map((d) => e(d)),
      )
    ).position
  const pass = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) {
      await settle()
      await clock.advance(100)
    }
  }
  const rows = (): unknown[] => [...projector.table('seen').values()]
  return { clock, store, projector, keep, append, rows, pass }
}

/** Writes each event into a table, and tells of side effects. */
function seen(options: Partial<Projection<Counted, MemoryTransaction>> & { fails?(n: number): boolean } = {}) {
  const sent: number[] = []
  const batches: number[][] = []
  const projection: Projection<Counted, MemoryTransaction> = {
    name: 'seen',
    on: ['e'],
    async project(events, { tx, name, replaying }) {
      batches.push(events.map((event) => event.data))
      const table = tx.table<number>(name('seen'))
      for (const event of events) {
        table.set(`${event.position}`, event.data * 10 ** ((options.revision ?? 1) - 1))
        if (options.fails?.(event.data)) throw new Error(`poison ${event.data}`)
      }
      await Promise.resolve()
      if (!replaying) sent.push(...events.map((event) => event.data))
    },
    ...options,
  }
  return { projection, sent, batches }
}

test('a projection takes what is there and what comes, in batches, and only what it asks for', async () => {
  const { store, projector, keep, append, rows } = open()
  await append(1, 2, 3)
  const { projection, batches, sent } = seen()
  const subscription = keep(projector.run(projection, { batch: 2 }))
  await settle()
  await store.append('s', [e(9, 'other')])
  await append(4)
  await settle()
  expect(batches).toEqual([[1, 2], [3], [4]])
  expect([rows(), sent]).toEqual([
    [1, 2, 3, 4],
    [1, 2, 3, 4],
  ])
  expect([subscription.position, await projector.position('seen'), await projector.position('unknown')]).toEqual([
    5, 5, 0,
  ])
})

test('a query picks the events of a projection', async () => {
  const { store, projector, keep, rows } = open()
  await store.append('s', [e(1), { ...e(2), tags: ['t'] }])
  keep(projector.run(seen({ on: { items: [{ tags: ['t'] }] } }).projection))
  await settle()
  expect(rows()).toEqual([2])
})

test('a batch that fails is cut until one event is alone: all others are there once, that one is tried and parked', async () => {
  for (const poison of [0, 1, 7, 12, 15]) {
    const { pass, projector, keep, append, rows } = open()
    const all = Array.from({ length: 16 }, (_, i) => i)
    await append(...all)
    const { projection, batches } = seen({ fails: (n) => n === poison })
    const subscription = keep(projector.run(projection, { retry: { attempts: 3, giveUp: 'park' } }))
    const parked: unknown[] = []
    subscription.on('parked', (event) => parked.push(event))
    await pass()
    expect(rows()).toEqual(all.filter((n) => n !== poison))
    expect(parked).toMatchObject([{ position: poison + 1, attempts: 3, error: `poison ${poison}` }])
    expect(batches.filter((batch) => batch.length === 1 && batch[0] === poison)).toHaveLength(3)
    expect(batches.length).toBeLessThan(16)
  }
})

test('two events that fail in one batch are both found', async () => {
  const { pass, projector, keep, append, rows } = open()
  await append(...Array.from({ length: 16 }, (_, i) => i))
  const { projection } = seen({ fails: (n) => n === 4 || n === 5 })
  const subscription = keep(projector.run(projection, { retry: { attempts: 1, giveUp: 'park' } }))
  const parked: number[] = []
  subscription.on('parked', ({ position }) => parked.push(position))
  await pass()
  expect(parked).toEqual([5, 6])
  expect(rows()).toHaveLength(14)
})

test('without parking the projection fails, its tables and checkpoint before the event', async () => {
  const { pass, projector, keep, append, rows } = open()
  await append(1, 2, 3)
  const subscription = keep(projector.run(seen({ fails: (n) => n === 3 }).projection, { retry: { attempts: 2 } }))
  const failures: unknown[] = []
  subscription.on('failed', ({ error }) => failures.push((error as Error).message))
  const errors: unknown[] = []
  subscription.on('error', ({ event, attempt }) => errors.push([event?.data, attempt]))
  await pass()
  expect([rows(), subscription.position, subscription.state, failures]).toEqual([[1, 2], 2, 'failed', ['poison 3']])
  expect(errors.at(0)).toEqual([undefined, 1]) // the whole batch
  expect(errors.slice(-2)).toEqual([
    [3, 1],
    [3, 2],
  ])
})

test('setup runs once per revision, before the first event, however often it is run', async () => {
  const { projector, keep, append } = open()
  await append(1)
  const order: string[] = []
  const { projection } = seen({
    setup: async (context) => {
      await Promise.resolve()
      order.push(`setup ${context.name('seen')}`)
    },
    project: () => void order.push('project'),
  })
  for (let i = 0; i < 8; i++) keep(projector.run(projection))
  await settle()
  expect(order).toEqual(['setup seen_v1', 'project'])
})

test('a rebuild stands beside the live revision, without side effects, until it is activated', async () => {
  const { pass, projector, keep, append, rows } = open()
  await append(1, 2)
  const [one, two] = [seen(), seen({ revision: 2 })]
  const live = keep(projector.run(one.projection))
  await settle()
  const rebuild = await projector.rebuild(two.projection, { batch: 1 })
  keep(rebuild.subscription)
  await append(3)
  await pass()
  expect([rows(), one.sent, two.sent]).toEqual([[1, 2, 3], [1, 2, 3], []])
  expect(await rebuild.progress()).toMatchObject({ position: 3, head: 3, perSecond: expect.any(Number) as number })
  const activated = Promise.all([rebuild.activate(), rebuild.activate()])
  await pass()
  await activated
  await append(4)
  await pass()
  expect(rows()).toEqual([10, 20, 30, 40])
  expect([one.sent, two.sent]).toEqual([[1, 2, 3], [4]]) // each once, by whoever was live
  expect(live.position).toBe(4) // kept for the way back
  const back = await projector.rebuild(one.projection)
  keep(back.subscription)
  const returned = back.activate()
  await pass()
  await returned
  await append(5)
  await pass()
  expect(rows()).toEqual([1, 2, 3, 4, 5])
  expect([one.sent, two.sent]).toEqual([[1, 2, 3, 5], [4]])
})

test('a new revision that is only run changes nothing for readers', async () => {
  const { pass, projector, keep, append, rows } = open()
  await append(1)
  keep(projector.run(seen().projection))
  await settle()
  const two = seen({ revision: 2 })
  keep(projector.run(two.projection))
  await append(2)
  await pass()
  expect([rows(), two.sent]).toEqual([[1, 2], []])
  expect(two.batches.flat()).toEqual([1, 2])
})

test('the new revision waits for the live one: side effects that are still to come are not lost', async () => {
  const { pass, projector, keep, append, rows } = open()
  await append(1)
  const [one, two] = [seen(), seen({ revision: 2 })]
  const live = keep(projector.run(one.projection))
  await settle()
  await live.stop()
  await append(2, 3) // nobody has sent what these lead to
  const rebuild = await projector.rebuild(two.projection)
  keep(rebuild.subscription)
  await pass()
  expect(two.batches.flat()).toEqual([1])
  const activated = rebuild.activate()
  await pass()
  await activated
  expect([rows(), one.sent, two.sent]).toEqual([[10, 20, 30], [1], [2, 3]])
})

test('a discarded revision is gone, and whoever builds it ends; it can be built again', async () => {
  const { pass, projector, keep, append, rows } = open()
  await append(1, 2)
  const two = seen({ revision: 2 })
  keep(projector.run(seen().projection))
  await settle()
  const other = keep(projector.run(two.projection))
  const failures: unknown[] = []
  other.on('failed', ({ error }) => failures.push(error))
  const rebuild = keep2(keep, await projector.rebuild(two.projection))
  await pass()
  await rebuild.discard()
  await rebuild.discard()
  await pass()
  expect(failures).toMatchObject([{ code: 'NOT_FOUND' }])
  await expect(rebuild.activate()).rejects.toMatchObject({ code: 'NOT_FOUND' })
  const again = keep2(keep, await projector.rebuild(two.projection))
  const activated = again.activate()
  await pass()
  await activated
  expect(rows()).toEqual([10, 20])
  await expect(again.discard()).rejects.toMatchObject({ code: 'INVALID_OPTION' })
})

const keep2 = <R extends { subscription: Subscription }>(keep: (s: Subscription) => unknown, rebuild: R): R => {
  keep(rebuild.subscription)
  return rebuild
}

test('of two revisions that are activated at the same time the last one asked for becomes live, and the other is told', async () => {
  const { projector, keep, append, pass } = open()
  keep(projector.run(seen().projection))
  await append(1, 2)
  await pass()
  const rebuilds = await Promise.all([2, 3].map((revision) => projector.rebuild({ ...seen().projection, revision })))
  for (const { subscription } of rebuilds) keep(subscription)
  const activated = Promise.allSettled(rebuilds.map((rebuild) => rebuild.activate()))
  await pass()
  const [second, third] = await activated
  expect(second).toMatchObject({ status: 'rejected', reason: { code: 'CLOSED' } })
  expect(third).toMatchObject({ status: 'fulfilled' })
})

test('activate() ends when its signal aborts or its subscription has ended', async () => {
  const { pass, projector, keep, append } = open()
  await append(1)
  const live = keep(projector.run(seen().projection))
  await settle()
  const two = seen({ revision: 2, fails: () => true })
  const rebuild = keep2(keep, await projector.rebuild(two.projection, { retry: { attempts: 1 } }))
  rebuild.subscription.on('failed', () => {})
  const reason = new Error('enough')
  await expect(rebuild.activate({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  const ended = expect(rebuild.activate()).rejects.toMatchObject({ code: 'CLOSED' })
  await pass()
  await ended
  expect(live.state).toBe('live')
})

test('a mistake in a projection is found at once', () => {
  const { projector } = open()
  const bad = (projection: object, options?: object) => () =>
    projector.run({ ...seen().projection, ...projection }, options)
  expect(bad({ name: '' })).toThrow(/projection.name/)
  expect(bad({ revision: 0 })).toThrow(/projection.revision/)
  expect(bad({ on: [] })).toThrow(/types/)
  expect(bad({ on: undefined })).toThrow(/projection.on/)
  expect(bad({ project: 1 })).toThrow(/projection.project/)
  expect(bad({}, { batch: 0 })).toThrow(/batch/)
  expect(bad({}, { partitions: { count: 2 } })).toThrow(/partitions/)
})

test('an inline projection is done when its append is, and one that throws records nothing', async () => {
  const { store, projector, rows } = open()
  const { projection, sent } = seen({ fails: (n) => n === 3 })
  projector.inline(projection)
  await store.append('s', [e(1), e(9, 'other'), e(2)])
  expect([rows(), sent]).toEqual([
    [1, 2],
    [1, 2],
  ])
  await expect(store.append('s', [e(4), e(3)], { idempotencyKey: 'k' })).rejects.toThrow('poison 3')
  const all = store.appendAll([
    { stream: 's', events: [e(5)] },
    { stream: 't', events: [e(3)] },
  ])
  await expect(all).rejects.toThrow('poison 3')
  expect([rows(), (await store.readPage()).head, await store.info('t')]).toEqual([[1, 2], 3, undefined])
  expect(await store.append('s', [e(6)], { expectedVersion: 3, idempotencyKey: 'k' })).toMatchObject({ version: 4 })
  expect(await store.append('s', [e(6)], { idempotencyKey: 'k' })).toMatchObject({ duplicate: true })
  expect(rows()).toEqual([1, 2, 6])
})

test('appends at the same time and an inline projection: one wins, and only its events are projected', async () => {
  const { store, projector, rows, append } = open()
  projector.inline(seen().projection)
  const results = await Promise.allSettled(
    [1, 2, 3].map((n) => store.append('s', [e(n)], { expectedVersion: 'no-stream' })),
  )
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected'])
  expect(rows()).toEqual([1])
  await Promise.all(Array.from({ length: 10 }, (_, i) => append(i + 10)))
  expect(rows()).toHaveLength(11)
})

test('a stream that is closed while an inline projection works on it takes no events, and neither does the read model', async () => {
  const { store, projector, rows, append } = open()
  const { projection } = seen()
  projector.inline({
    ...projection,
    project: async (events, context) => {
      await projection.project(events, context)
      if (events[0]?.data === 99) await store.archive('s')
    },
  })
  await append(1)
  await expect(append(99)).rejects.toMatchObject({ code: 'STREAM_CLOSED' })
  expect([rows(), (await store.readPage()).head]).toEqual([[1], 1])
})

test('an inline projection waits for its setup; one that fails fails the append, and is tried again', async () => {
  const { store, projector, rows } = open()
  let setups = 0
  const setup = async (): Promise<void> => {
    if (++setups === 1) throw new Error('not yet')
  }
  projector.inline({ ...seen().projection, setup })
  await expect(store.append('s', [e(1)])).rejects.toThrow('not yet')
  await store.append('s', [e(2)])
  expect([rows(), setups]).toEqual([[2], 2])
})

test('an inline projection of a revision that is not the live one refuses every append', async () => {
  const { projector, store, keep, append, pass } = open()
  keep(projector.run(seen().projection))
  await pass()
  projector.inline({ ...seen().projection, revision: 2 })
  for (let i = 0; i < 2; i++) {
    const refused = append(1)
    await expect(refused).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await expect(refused).rejects.toThrow('projection.revision: expected 1, the live one of "seen"')
    await pass()
  }
  expect((await store.readPage()).head).toBe(0)
})

test('a store that has no inline projections refuses them', () => {
  const { store } = open()
  const other = Object.assign(Object.create(null), { readPage: store.readPage.bind(store) }) as typeof store
  expect(() => new MemoryProjector(other).inline(seen().projection)).toThrow(/inline/)
})
