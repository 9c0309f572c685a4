import { expect, test, vi } from 'vitest'
import {
  Aggregate,
  MemoryEventStore,
  Repository,
  type Event,
  type RepositoryOptions,
} from '../../src/event-sourcing/index.js'
import { StoreError } from '../../src/kernel/errors.js'
import { ManualClock } from '../../src/testing/index.js'
import { Counter, counter, type CounterEvent } from './counter.js'
import { counting } from './counting-store.js'

const open = (options: Partial<RepositoryOptions> = {}) => {
  const { store, uses, reset } = counting(new MemoryEventStore<CounterEvent>())
  const deciders = new Repository(store, counter, { category: 'c', ...options })
  const classes = new Repository(store, Counter, { category: 'c', ...options })
  return { store, uses, reset, deciders, classes }
}
const add = (n: number) => ({ kind: 'add' as const, n })
const times = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i))

test('commands that wait for one stream are appended together, and each hears its own outcome', async () => {
  for (const of of ['deciders', 'classes'] as const) {
    const { uses, reset, ...repositories } = open()
    const run = (n: number) =>
      of === 'deciders' ? repositories.deciders.handle('1', add(n)) : repositories.classes.handle('1', (c) => c.add(n))
    await repositories.deciders.handle('1', { kind: 'open', limit: 10_000 })
    reset()
    const all = await Promise.all(times(64, run))
    expect(uses).toMatchObject({ appends: 1, reads: 1 })
    let total = 0
    for (const [i, handled] of all.entries()) {
      total += i
      expect(handled).toMatchObject({ version: i + 2, position: i + 2, attempts: 1, exists: true, duplicate: false })
      expect(handled.state.total).toBe(total)
      expect(handled.events.map((e) => [e.type, e.version, e.data])).toEqual([['Added', i + 2, { n: i }]])
      if (of === 'classes') expect(handled.state).toMatchObject({ version: i + 2, uncommitted: [] })
    }
    expect(new Set(all.map((h) => h.state)).size).toBe(64)
    await Promise.all(times(100, () => run(0)))
    expect(uses.appends).toBe(3)
  }
})

test('of several hundred callers that come while an append is under way, 64 share the next; group: 1 turns it off', async () => {
  const { deciders, uses } = open()
  await deciders.handle('1', { kind: 'open', limit: 1_000 })
  await Promise.all(times(300, () => deciders.handle('1', add(1))))
  expect(uses.appends).toBe(1 + Math.ceil(300 / 64))
  const single = open({ group: 1, retries: 1_000 })
  await single.deciders.handle('1', { kind: 'open', limit: 1_000 })
  const all = await Promise.all(times(20, () => single.deciders.handle('1', add(1))))
  expect(single.uses.appends).toBeGreaterThan(20)
  expect(Math.max(...all.map((h) => h.attempts))).toBeGreaterThan(1)
})

test('a command that is refused is rejected alone; the others are decided as if it had not been', async () => {
  for (const of of ['deciders', 'classes'] as const) {
    const { uses, deciders, classes } = open()
    const run = (n: number) => (of === 'deciders' ? deciders.handle('1', add(n)) : classes.handle('1', (c) => c.add(n)))
    await deciders.handle('1', { kind: 'open', limit: 10 })
    const boom = new Error('boom')
    const half = classes.handle('1', (c) => {
      c.add(1)
      throw boom
    })
    const outcomes = await Promise.allSettled([run(4), run(7), run(3), run(4), run(3), half])
    expect(outcomes.map((o) => (o.status === 'fulfilled' ? o.value.state.total : (o.reason as Error).message))).toEqual(
      [4, 'over the limit', 7, 'over the limit', 10, 'boom'],
    )
    if (of === 'deciders') expect(uses.appends).toBe(2)
    expect((await deciders.load('1')).state.total).toBe(10)
  }
})

test('an event that can’t be stored costs its own caller the call, nobody else', async () => {
  const { deciders, store } = open()
  const bad = deciders.handle('1', () => ({ type: 'Added', data: { n: 1, f: () => {} } }))
  const badType = deciders.handle('1', () => ({ type: '', data: { n: 1 } }) as never)
  const outcomes = await Promise.allSettled([
    deciders.handle('1', { kind: 'open', limit: 10 }),
    bad,
    badType,
    deciders.handle('1', add(2)),
  ])
  expect(
    outcomes.map((o) => (o.status === 'rejected' ? (o.reason as { code: string }).code : o.value.state.total)),
  ).toEqual([0, 'INVALID_PAYLOAD', 'INVALID_OPTION', 2])
  expect((await store.info('c-1'))?.version).toBe(2)
})

test('an archived stream refuses each of them with the error that names it', async () => {
  const { deciders, store } = open()
  await deciders.handle('1', { kind: 'open', limit: 10 })
  await store.archive('c-1')
  const outcomes = await Promise.allSettled(times(3, () => deciders.handle('1', add(1))))
  for (const o of outcomes) expect(o).toMatchObject({ reason: { code: 'STREAM_CLOSED', stream: 'c-1' } })
})

test('when nobody knows whether a group was stored, each of its callers is told so, and the line goes on', async () => {
  const { store } = open()
  let fail = true
  const shaky = new Proxy(store, {
    get: (target, name) =>
      name === 'append' && fail
        ? () => Promise.reject(new StoreError('gone'))
        : (Reflect.get(target, name, target) as () => void).bind(target),
  })
  const deciders = new Repository(shaky, counter, { category: 'c' })
  const lost = await Promise.allSettled([
    deciders.handle('1', { kind: 'open', limit: 9 }),
    deciders.handle('1', add(1)),
  ])
  for (const o of lost) expect(o).toMatchObject({ reason: { code: 'STORE_FAILED' } })
  fail = false
  expect(await deciders.handle('1', { kind: 'open', limit: 9 })).toMatchObject({ version: 1 })
})

test('calls with a key, an expected version or metadata mean what they mean alone', async () => {
  const { deciders } = open()
  await deciders.handle('1', { kind: 'open', limit: 100 })
  const [one, keyed, two, again, exact, stale, three] = await Promise.all([
    deciders.handle('1', add(1), { metadata: { correlationId: 'x' } }),
    deciders.handle('1', add(2), { idempotencyKey: 'k', metadata: { causationId: 'y' } }),
    deciders.handle('1', () => ({ type: 'Added', data: { n: 3 }, metadata: { correlationId: 'own', a: 1 } }), {
      metadata: { correlationId: 'z', b: 2 },
    }),
    deciders.handle('1', add(2), { idempotencyKey: 'k' }),
    deciders.handle('1', add(4), { expectedVersion: 3 }),
    deciders.handle('1', add(4), { expectedVersion: 1 }).catch((error: unknown) => error),
    deciders.handle('1', add(5), { expectedVersion: 'exists' }),
  ])
  expect([one.events[0]?.metadata, keyed.events[0]?.metadata]).toEqual([{ correlationId: 'x' }, { causationId: 'y' }])
  expect(two.events[0]?.metadata).toEqual({ correlationId: 'own', a: 1, b: 2 })
  expect([keyed, again].filter((h) => h.duplicate)).toHaveLength(1)
  expect(again.version).toBe(keyed.version)
  expect(exact).toMatchObject({ version: 4, attempts: 1 })
  expect(stale).toMatchObject({
    code: 'VERSION_CONFLICT',
    expected: 1,
    missed: { length: expect.any(Number) as number },
  })
  expect(three.events).toHaveLength(1)
  expect((await deciders.load('1')).state.total).toBe(1 + 2 + 3 + 4 + 5)
})

test('metadata of each caller goes under its own events in a group', async () => {
  const { deciders, uses, reset } = open()
  await deciders.handle('1', { kind: 'open', limit: 100 })
  reset()
  const all = await Promise.all(
    times(3, (i) => deciders.handle('1', add(1), i === 1 ? {} : { metadata: { correlationId: `${i}` } })),
  )
  expect(uses.appends).toBe(1)
  expect(all.map((h) => h.events[0]?.metadata)).toEqual([{ correlationId: '0' }, {}, { correlationId: '2' }])
})

test('metadata that is none is refused to its own caller, in a group as alone', async () => {
  const { deciders } = open()
  await deciders.handle('1', { kind: 'open', limit: 100 })
  const options = { metadata: { correlationId: 'x' } }
  const odd = (metadata: unknown) => () => ({ type: 'Added', data: { n: 1 }, metadata }) as CounterEvent
  const outcomes = await Promise.allSettled([
    deciders.handle('1', odd('text'), options),
    deciders.handle('1', odd([]), options),
    deciders.handle('1', odd(null), options),
    deciders.handle('1', add(1), options),
    deciders.handle('1', add(1), { metadata: 'text' as never }),
  ])
  expect(
    outcomes.map((o) => (o.status === 'rejected' ? (o.reason as { code: string }).code : o.value.version)),
  ).toEqual(['INVALID_OPTION', 'INVALID_OPTION', 'INVALID_OPTION', 2, 'INVALID_OPTION'])
})

test('who is aborted while waiting leaves at once and writes nothing; the others are not held up', async () => {
  const { deciders } = open()
  await deciders.handle('1', { kind: 'open', limit: 100 })
  const [waiting, deciding] = [new AbortController(), new AbortController()]
  let go!: () => void
  const first = deciders.handle(
    '1',
    async () => {
      await new Promise<void>((resolve) => (go = resolve))
      return { type: 'Added', data: { n: 1 } }
    },
    { signal: deciding.signal },
  )
  const second = deciders.handle('1', add(10), { signal: waiting.signal })
  const third = deciders.handle('1', add(100), {})
  const outcomes = Promise.allSettled([first, second, third])
  await vi.waitFor(() => expect(go).toBeDefined())
  waiting.abort(new Error('enough'))
  await expect(second).rejects.toThrow('enough')
  deciding.abort(new Error('me too'))
  await expect(first).rejects.toThrow('me too')
  go()
  expect((await outcomes)[2]).toMatchObject({ status: 'fulfilled', value: { state: { total: 100 } } })
  expect((await deciders.load('1')).version).toBe(2)
})

test('a conflict’s missed events are folded: the stream is not read again', async () => {
  const { deciders, store, uses, reset } = open()
  await deciders.handle('1', { kind: 'open', limit: 100 })
  reset()
  let once = true
  const all = await Promise.all(
    times(5, () =>
      deciders.handle('1', async () => {
        if (once) await store.append('c-1', [{ type: 'Added', data: { n: 50 } }])
        once = false
        return { type: 'Added', data: { n: 1 } }
      }),
    ),
  )
  expect(all.map((h) => [h.state.total, h.attempts, h.version])).toEqual(times(5, (i) => [51 + i, 2, 3 + i]))
  expect(uses).toMatchObject({ reads: 1, appends: 3 })
})

test('a stream that several work on at once is read once; one that one works on, each time', async () => {
  const clock = new ManualClock()
  const { deciders, uses, reset } = open({ clock })
  await deciders.handle('1', { kind: 'open', limit: 1_000 })
  reset()
  const work = async (n: number): Promise<void> => {
    for (let i = 0; i < n; i++) await deciders.handle('1', add(1))
  }
  await work(3)
  expect(uses.reads).toBe(3)
  reset()
  await Promise.all(times(16, () => work(10)))
  expect(uses).toMatchObject({ reads: 1, appends: 10 })
  await clock.advance(10)
  reset()
  expect((await deciders.handle('1', add(1))).state.total).toBe(164)
  expect(uses.reads).toBe(1)
})

test('a refusal is told of a state that was true after the call had come', async () => {
  const { deciders, store } = open({ cache: { max: 10 } })
  await deciders.handle('1', { kind: 'open', limit: 5 })
  await deciders.handle('1', add(5))
  // Somebody else, in another process, makes room.
  const opened: CounterEvent = { type: 'Opened', data: { limit: 100 } }
  await store.append('c-1', [opened])
  expect((await deciders.handle('1', add(1))).state.total).toBe(6)
  await store.append('c-1', [{ type: 'Closed', data: null }])
  const nothing = await deciders.handle('1', (state) => {
    expect(state.status).toBe(seen++ === 0 ? 'open' : 'closed')
  })
  expect([nothing.version, nothing.attempts]).toEqual([5, 2])
})
let seen = 0

test('a decision that waits for one behind it does not wait for ever', async () => {
  const clock = new ManualClock()
  const { deciders } = open({ clock, patienceMs: 50 })
  await deciders.handle('1', { kind: 'open', limit: 100 })
  let inner: Promise<unknown> | undefined
  const before = deciders.handle('1', add(1))
  const outer = deciders.handle('1', async (state) => {
    inner ??= deciders.handle('1', add(10))
    await inner
    return { type: 'Added', data: { n: state.total } }
  })
  const after = deciders.handle('1', add(2))
  await clock.advance(49)
  expect((await deciders.load('1')).version).toBe(1)
  await clock.advance(1)
  const [b, a, o] = await Promise.all([before, after, outer])
  expect([b.state.total, a.state.total, o.state.total]).toEqual([1, 3, 26])
  expect((await inner) as object).toMatchObject({ state: { total: 13 } })
  expect((await deciders.load('1')).version).toBe(5)
})

test('a slow decision does not stand on events of one before it that were never stored', async () => {
  const clock = new ManualClock()
  const { deciders } = open({ clock })
  await deciders.handle('1', { kind: 'open', limit: 100 })
  const leaving = new AbortController()
  const before = deciders.handle('1', add(1), { signal: leaving.signal }).catch(() => {})
  let go: (() => void) | undefined
  const slow = deciders.handle('1', async (state) => {
    if (!go) await new Promise<void>((resolve) => (go = resolve))
    return { type: 'Added', data: { n: 10 + state.total } }
  })
  await clock.advance(0)
  leaving.abort()
  await clock.advance(100)
  go?.()
  await before
  expect((await slow).state.total).toBe(10)
})

type Ev = Event<'E', number>
test('a class whose snapshots can’t be kept is decided one by one, and right', async () => {
  class Odd extends Aggregate<Ev> {
    sum = 0
    protected apply(event: Ev): void {
      this.sum += event.data
    }
    override snapshot(): unknown {
      return { f: () => this.sum }
    }
    override restore(): void {
      throw new Error('never')
    }
  }
  const { store, uses } = counting(new MemoryEventStore<Ev>())
  const odd = new Repository(store, Odd, { category: 'o' })
  const all = await Promise.all(times(5, (i) => odd.handle('1', () => ({ type: 'E', data: i }))))
  expect(all.map((h) => h.state.sum)).toEqual([0, 1, 3, 6, 10])
  expect(uses.appends).toBe(5)
})

test('an event that can’t be replayed is not stored, and costs nobody else the call', async () => {
  type Odd = Event<'Added', number> | Event<'Odd', null>
  const store = new MemoryEventStore<Odd>()
  const boom = new Error('boom')
  const evolve = (sum: number, event: Odd): number => {
    if (event.type === 'Odd') throw boom
    return sum + event.data
  }
  const sums = new Repository(store, { initial: () => 0, decide: (e: Odd) => e, evolve }, { category: 'c' })
  await expect(sums.handle('1', { type: 'Odd', data: null })).rejects.toBe(boom)
  const one: Odd = { type: 'Added', data: 1 }
  const outcomes = await Promise.allSettled(
    [one, { type: 'Odd', data: null } as const, one].map((e) => sums.handle('1', e)),
  )
  expect(outcomes).toMatchObject([{ value: { state: 1 } }, { reason: boom }, { value: { state: 2 } }])
  expect(await sums.load('1')).toMatchObject({ state: 2, version: 2 })
})

test('an aggregate that is changed after its decision changes nothing of what the others hear', async () => {
  const { classes, store } = open()
  await classes.handle('1', (c) => c.open(100))
  let leaked: Counter | undefined
  const append = store.append.bind(store)
  vi.spyOn(store, 'append').mockImplementation((...args) => {
    leaked?.add(50)
    return append(...args)
  })
  const first = classes.handle('1', (c) => {
    leaked = c
    c.add(1)
  })
  const [, second] = await Promise.all([first, classes.handle('1', (c) => c.add(2))])
  expect(second).toMatchObject({ version: 3, events: [{ data: { n: 2 } }] })
})
