import { expect, test, vi } from 'vitest'
import { MemoryEventStore, Repository, type Loaded } from '../../src/event-sourcing/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { Counter, counter, type CounterCommand, type CounterEvent, type CounterState } from './counter.js'

const open = (retries?: number) => {
  const clock = new ManualClock()
  const store = new MemoryEventStore<CounterEvent>({ clock })
  const classes = new Repository(store, Counter, { category: 'counter', retries })
  const deciders = new Repository(store, counter, { category: 'counter', retries })
  return { clock, store, classes, deciders }
}
const list = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

test('an aggregate applies what it raises at once, and remembers it until it is stored', async () => {
  const one = new Counter('7')
  one.open(5)
  one.add(2)
  expect(one.total).toBe(2)
  expect(one.uncommitted.map((e) => e.type)).toEqual(['Opened', 'Added'])
  expect(one.version).toBe(0)
})

test('an aggregate comes back from its events, private fields too', async () => {
  const { classes } = open()
  const { state, version, exists, events, position } = await classes.handle('7', (c) => {
    c.open(5)
    c.add(2)
  })
  expect([state.total, state.status, state.version, state.uncommitted]).toEqual([2, 'open', 2, []])
  expect([version, exists, position]).toEqual([2, true, 2])
  expect(events.map((e) => [e.type, e.streamId, e.version])).toEqual([
    ['Opened', 'counter-7', 1],
    ['Added', 'counter-7', 2],
  ])
  const loaded = await classes.load('7')
  expect([loaded.state.id, loaded.state.total, loaded.state.status, loaded.state.version]).toEqual(['7', 2, 'open', 2])
})

test('what was never written loads as the initial state', async () => {
  const { classes, deciders } = open()
  expect(await deciders.load('x')).toEqual({ id: 'x', state: counter.initial('x'), version: 0, exists: false })
  expect((await classes.load('x')).exists).toBe(false)
})

test('a decider takes commands as data, and functions of the state', async () => {
  const { deciders } = open()
  await deciders.handle('1', { kind: 'open', limit: 9 })
  const handled = await deciders.handle('1', (state) => ({ type: 'Added', data: { n: state.limit } }))
  expect(handled.state).toEqual({ status: 'open', limit: 9, total: 9 })
})

test('a class may return its events as well as raise them', async () => {
  const { classes } = open()
  const { state } = await classes.handle('1', async (c) => {
    c.open(9)
    return [
      { type: 'Added', data: { n: 1 } },
      { type: 'Added', data: { n: 2 } },
    ]
  })
  expect([state.total, state.version]).toEqual([3, 3])
})

test('a command that changes nothing writes nothing', async () => {
  const { deciders, store } = open()
  const handled = await deciders.handle('1', { kind: 'close' })
  expect(handled).toMatchObject({ version: 0, exists: false, events: [], position: 0, attempts: 1, duplicate: false })
  expect(await store.info('counter-1')).toBeUndefined()
})

test('what a command throws comes out as the same object, and nothing is written', async () => {
  const { deciders, classes, store } = open()
  const boom = new Error('boom')
  await expect(deciders.handle('1', () => Promise.reject(boom))).rejects.toBe(boom)
  const half = classes.handle('1', (c) => {
    c.open(1)
    throw boom
  })
  await expect(half).rejects.toBe(boom)
  expect(await store.info('counter-1')).toBeUndefined()
})

// emmett: a create that expects no stream succeeded twice, because the expectation was dropped on the way to the store.
test('of two creations at the same time, the second is decided on the state after the first', async () => {
  for (const expectedVersion of ['any', 'no-stream'] as const) {
    const { classes, store } = open()
    let arrived!: () => void
    const first = new Promise<void>((resolve) => (arrived = resolve))
    const slow = classes.handle(
      '1',
      async (c) => {
        c.open(1)
        await first
      },
      { expectedVersion },
    )
    await classes.handle('1', (c) => c.open(2))
    arrived()
    if (expectedVersion === 'any') await expect(slow).rejects.toThrow('is open already')
    else
      await expect(slow).rejects.toMatchObject({
        code: 'VERSION_CONFLICT',
        expected: 'no-stream',
        actual: 1,
        missed: [{ type: 'Opened' }],
      })
    expect((await store.info('counter-1'))?.version).toBe(1)
  }
})

test('commands at the same time are all decided, each on the state after the one before', async () => {
  const { store } = open()
  const deciders = new Repository(store, counter, { category: 'counter', retries: 20, group: 1 })
  await deciders.handle('1', { kind: 'open', limit: 10 })
  const tries = await Promise.allSettled(Array.from({ length: 15 }, () => deciders.handle('1', { kind: 'add', n: 1 })))
  expect(tries.filter((t) => t.status === 'fulfilled')).toHaveLength(10)
  const { state, version } = await deciders.load('1')
  expect([state.total, version]).toEqual([10, 11])
  expect(Math.max(...tries.map((t) => (t.status === 'fulfilled' ? t.value.attempts : 0)))).toBeGreaterThan(1)
})

test('a command is decided again no more often than the retries allow', async () => {
  const { deciders, store } = open(2)
  let decided = 0
  const always = deciders.handle('1', async () => {
    decided++
    await store.append('counter-1', [{ type: 'Added', data: { n: 1 } }])
    return { type: 'Closed', data: null }
  })
  await expect(always).rejects.toMatchObject({ code: 'VERSION_CONFLICT', expected: 2, actual: 3 })
  expect(decided).toBe(3)
})

test('an expected version is that of the state decided on: it is not retried away', async () => {
  const { deciders } = open()
  await deciders.handle('1', { kind: 'open', limit: 9 }, { expectedVersion: 0 })
  await deciders.handle('1', { kind: 'add', n: 1 }, { expectedVersion: 'exists' })
  let decided = 0
  const stale = deciders.handle('1', () => void decided++, { expectedVersion: 1 })
  await expect(stale).rejects.toMatchObject({
    code: 'VERSION_CONFLICT',
    expected: 1,
    actual: 2,
    missed: [{ type: 'Added' }],
  })
  await expect(deciders.handle('2', { kind: 'close' }, { expectedVersion: 'exists' })).rejects.toMatchObject({
    actual: 0,
  })
  expect(decided).toBe(0)
})

test('a repeated command gives the first outcome: state and events of then, nothing decided', async () => {
  const { deciders } = open()
  await deciders.handle('1', { kind: 'open', limit: 9 })
  const first = await deciders.handle('1', { kind: 'add', n: 2 }, { idempotencyKey: 'k' })
  await deciders.handle('1', { kind: 'add', n: 3 })
  await deciders.handle('1', { kind: 'close' })
  // Decided again, it would throw: the counter is closed.
  const again = await deciders.handle('1', { kind: 'add', n: 2 }, { idempotencyKey: 'k' })
  expect(again).toEqual({ ...first, duplicate: true, attempts: 0 })
  expect((await deciders.load('1')).state.total).toBe(5)
  await expect(deciders.handle('2', { kind: 'close' }, { idempotencyKey: 'k' })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
  })
})

test('a command given twice at the same time with one key happens once', async () => {
  const { deciders } = open()
  await deciders.handle('1', { kind: 'open', limit: 9 })
  const options = { idempotencyKey: 'k' }
  const both = await Promise.all([
    deciders.handle('1', { kind: 'add', n: 2 }, options),
    deciders.handle('1', { kind: 'add', n: 2 }, options),
  ])
  expect(both.filter((h) => h.duplicate)).toHaveLength(1)
  expect(both.map((h) => h.state.total)).toEqual([2, 2])
})

test('a command whose twin is stored just after its key was looked up gives the twin’s outcome, though it fits the state no more', async () => {
  const { store, deciders } = open()
  let looked = 0
  const slow = new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (name !== 'recall') return typeof value === 'function' ? (value.bind(target) as unknown) : value
      return async (key: string) => {
        const answer = await target.recall(key)
        if (looked++ === 0) await deciders.handle('1', { kind: 'open', limit: 9 }, { idempotencyKey: 'k' })
        return answer
      }
    },
  })
  const late = new Repository(slow, counter, { category: 'counter' })
  const handled = await late.handle('1', { kind: 'open', limit: 9 }, { idempotencyKey: 'k' })
  expect(handled).toMatchObject({ duplicate: true, version: 1 })
  await expect(deciders.handle('1', { kind: 'open', limit: 9 }, { idempotencyKey: 'other' })).rejects.toThrow()
})

test('time travel by version and by time is exact at the boundaries', async () => {
  const { deciders, classes, clock } = open()
  const t0 = clock.epochMs()
  await deciders.handle('1', { kind: 'open', limit: 9 })
  await clock.advance(10)
  await deciders.handle('1', { kind: 'add', n: 1 })
  await clock.advance(10)
  await deciders.handle('1', { kind: 'add', n: 2 })
  const total = async (at: object): Promise<[number, number]> => {
    const { state, version } = await deciders.load('1', at)
    expect((await classes.load('1', at)).state.total).toBe(state.total)
    return [state.total, version]
  }
  expect(await total({ version: 0 })).toEqual([0, 0])
  expect(await total({ version: 2 })).toEqual([1, 2])
  expect(await total({ version: 99 })).toEqual([3, 3])
  expect(await total({ asOf: new Date(t0 - 1) })).toEqual([0, 0])
  expect(await total({ asOf: new Date(t0 + 9) })).toEqual([0, 1])
  expect(await total({ asOf: new Date(t0 + 10) })).toEqual([1, 2])
  expect(await total({ version: 2, asOf: new Date(t0 + 20) })).toEqual([1, 2])
  expect(await total({ version: 3, asOf: new Date(t0 + 10) })).toEqual([1, 2])
})

test('states() gives every state, oldest first, each a value of its own', async () => {
  const { deciders, classes } = open()
  await deciders.handle('1', { kind: 'open', limit: 9 })
  for (const n of [1, 2]) await deciders.handle('1', { kind: 'add', n })
  const seen: [Loaded<CounterState>[], Loaded<Counter>[]] = [
    await list(deciders.states('1')),
    await list(classes.states('1')),
  ]
  for (const states of seen) {
    expect(states.map((s) => [s.version, s.state.total])).toEqual([
      [1, 0],
      [2, 1],
      [3, 3],
    ])
  }
  expect((await list(deciders.states('1', { version: 2 }))).map((s) => s.version)).toEqual([1, 2])
  expect(await list(deciders.states('nobody'))).toEqual([])
})

test('a terminal state and an archived stream take no more commands', async () => {
  const { store, deciders } = open()
  const ending = new Repository(
    store,
    { ...counter, isTerminal: (s: CounterState) => s.status === 'closed' },
    { category: 'counter' },
  )
  await ending.handle('1', { kind: 'open', limit: 1 })
  await ending.handle('1', { kind: 'close' })
  await expect(ending.handle('1', { kind: 'close' })).rejects.toMatchObject({
    code: 'STREAM_CLOSED',
    stream: 'counter-1',
  })
  await deciders.handle('2', { kind: 'open', limit: 1 })
  await store.archive('counter-2')
  await expect(deciders.handle('2', { kind: 'close' })).rejects.toMatchObject({ code: 'STREAM_CLOSED' })
  await store.tombstone('counter-2')
  await expect(deciders.load('2')).rejects.toMatchObject({ code: 'TOMBSTONED' })
})

test('a stream whose events were all truncated goes on from its version', async () => {
  const { store, deciders } = open()
  await deciders.handle('1', { kind: 'open', limit: 1 })
  await store.truncate('counter-1', 2)
  const { version, state } = await deciders.handle('1', { kind: 'open', limit: 5 })
  expect([version, state.limit]).toEqual([2, 5])
  await store.truncate('counter-1', 3)
  await expect(
    deciders.handle('1', { kind: 'open', limit: 5 }, { expectedVersion: 'no-stream' }),
  ).rejects.toMatchObject({ actual: 2 })
})

test('a stream whose events were all truncated is as expected when its version is, and needs no retry', async () => {
  const store = new MemoryEventStore()
  const deciders = new Repository(store, counter, { category: 'counter', retries: 0 })
  await deciders.handle('1', { kind: 'open', limit: 1 })
  for (const [before, expectedVersion] of [
    [2, 1],
    [3, 'exists'],
    [4, 'any'],
  ] as const) {
    await store.truncate('counter-1', before)
    const { version } = await deciders.handle('1', { kind: 'open', limit: 5 }, { expectedVersion })
    expect(version).toBe(before)
  }
  await store.truncate('counter-1', 5)
  const late = deciders.handle('1', { kind: 'open', limit: 5 }, { expectedVersion: 3 })
  await expect(late).rejects.toMatchObject({ actual: 4 })
})

test('a stream whose first event comes while it is looked up is not taken for one that was truncated', async () => {
  for (const cache of [undefined, { max: 1 }]) {
    const store = new MemoryEventStore<CounterEvent>()
    const deciders = new Repository(store, counter, { category: 'counter', cache })
    const info = store.info.bind(store)
    vi.spyOn(store, 'info').mockImplementationOnce(async (stream) => {
      await store.append(stream, [{ type: 'Opened', data: { limit: 1 } }])
      return info(stream)
    })
    const again = deciders.handle('1', { kind: 'open', limit: 5 }, { expectedVersion: 'exists' })
    await expect(again).rejects.toThrow('is open already')
    expect((await deciders.load('1')).state).toMatchObject({ limit: 1 })
  }
})

test('no two categories and ids share a stream', () => {
  const { store } = open()
  const names = ['a', 'a-b', 'a%2Db', 'a%', 'a-', '-', '__proto__'].flatMap((category) => {
    const repository = new Repository(store, counter, { category })
    return ['c', 'b-c', '-', ''].map((id) => repository.stream(id))
  })
  expect(new Set(names).size).toBe(names.length)
  expect(names[0]).toBe('a-c')
})

test('metadata and signal go through to the append', async () => {
  const { deciders } = open()
  const { events } = await deciders.handle('1', { kind: 'open', limit: 1 }, { metadata: { correlationId: 'c' } })
  expect(events[0]?.metadata).toEqual({ correlationId: 'c' })
  const reason = new Error('enough')
  await expect(deciders.handle('1', { kind: 'close' }, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
})

test('a mistake in the options is found at construction', () => {
  const { store } = open()
  expect(() => new Repository(store, counter, { category: '' })).toThrow(/category/)
  expect(() => new Repository(store, counter, { category: 'a', retries: -1 })).toThrow(/retries/)
  expect(() => new Repository(store, counter, undefined as never)).toThrow(/^options: /)
  expect(() => new Repository(new MemoryEventStore(), null as never, { category: 'a' })).toThrow(/^source: /)
})

const commands = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('open' as const), limit: fc.integer({ min: 1, max: 30 }) }),
    fc.record({ kind: fc.constant('add' as const), n: fc.integer({ min: 1, max: 9 }) }),
    fc.record({ kind: fc.constant('close' as const) }),
  ),
  { maxLength: 20 },
)

prop(
  'the state after replay is the state after the commands, for class and decider, now and at every version',
  [commands],
  async (all) => {
    const { classes, deciders } = open()
    const mine = (c: Counter) => ({ status: c.status, limit: c.limit, total: c.total })
    const known = new Map<number, CounterState>([[0, counter.initial('d')]])
    for (const command of all) {
      const decided = await deciders.handle('d', command).catch((error: Error) => error.message)
      const run = (c: Counter): void => {
        if (command.kind === 'open') c.open(command.limit)
        else if (command.kind === 'add') c.add(command.n)
        else c.close()
      }
      const handled = await classes.handle('c', run).catch((error: Error) => error.message)
      if (typeof decided === 'string') expect(handled).toBe(decided)
      else {
        expect(handled).toMatchObject({ version: decided.version })
        expect(mine((handled as { state: Counter }).state)).toEqual(decided.state)
        known.set(decided.version, decided.state)
      }
    }
    for (const [version, state] of known) {
      expect(await deciders.load('d', { version })).toMatchObject({ version, state })
      expect(mine((await classes.load('c', { version })).state)).toEqual(state)
    }
  },
)

test('an event outside the union is no event of the repository', async () => {
  const { store } = open()
  // @ts-expect-error -- 'Other' is none of the counter's events
  await store.append('s', [{ type: 'Other', data: 1 }])
  const everything = new MemoryEventStore()
  const repository = new Repository(everything, counter, { category: 'counter' })
  const command: CounterCommand = { kind: 'open', limit: 1 }
  const { events } = await repository.handle('1', command)
  for (const event of events) if (event.type === 'Opened') expect(event.data.limit satisfies number).toBe(1)
})
