import { expect, test } from 'vitest'
import {
  Aggregate,
  MemoryEventStore,
  MemorySnapshots,
  Repository,
  type Event,
  type RepositoryOptions,
  type SnapshotStore,
} from '../../src/event-sourcing/index.js'
import { settle } from '../../src/testing/index.js'
import { snapshotStoreContract } from '../conformance/snapshot-store.js'
import { counting } from './counting-store.js'
import { Counter, counter } from './counter.js'

snapshotStoreContract('memory', async () => ({ snapshots: new MemorySnapshots(), close: async () => {} }))

type Added = Event<'Added', number>
/** Keeps what can be changed, to be found out when it is shared. */
class Tally extends Aggregate<Added> {
  static readonly snapshotRevision: number = 3
  seen: number[] = []
  protected apply(event: Added): void {
    this.seen.push(event.data)
  }
  override snapshot(): unknown {
    return this.seen
  }
  override restore(state: number[]): void {
    if (!Array.isArray(state)) throw new Error('unreadable')
    this.seen = state
  }
}
const one = (): Added => ({ type: 'Added', data: 1 })
const sumOf = {
  initial: () => ({ sum: 0 }),
  decide: (command: number): Added[] => (command > 0 ? [{ type: 'Added', data: command }] : []),
  evolve: (state: { sum: number }, event: Added) => ({ sum: state.sum + event.data }),
}

const open = (options: Partial<RepositoryOptions> = {}) => {
  const snapshots = new MemorySnapshots()
  const { store, uses, reset } = counting(new MemoryEventStore<Added>())
  const snapshot = { every: 10, revision: 3, store: snapshots }
  const make = (more: Partial<RepositoryOptions> = {}) => ({
    deciders: new Repository(store, sumOf, { category: 'c', snapshot, ...options, ...more }),
    classes: new Repository(store, Tally, { category: 'c', snapshot, ...options, ...more }),
  })
  return { store, uses, reset, snapshots, make, ...make() }
}
const fill = (store: MemoryEventStore<Added>, n: number) =>
  store.append(
    'c-1',
    Array.from({ length: n }, (): Added => ({ type: 'Added', data: 1 })),
  )

test('a stream of 100,000 events with a snapshot is loaded without reading the old ones', async () => {
  for (const of of ['deciders', 'classes'] as const) {
    const opened = open({ snapshot: undefined })
    const { store, uses, reset, snapshots } = opened
    await fill(store, 100_000)
    const snapshot = { every: 1_000, revision: 1, store: snapshots }
    const repository = opened.make({ snapshot })[of]
    await repository.load('1')
    await settle()
    await fill(store, 7)
    reset()
    const loaded = await opened.make({ snapshot })[of].load('1')
    expect([loaded.version, loaded.exists]).toEqual([100_007, true])
    const { state } = loaded
    expect(state instanceof Tally ? state.seen.length : state.sum).toBe(100_007)
    if (state instanceof Tally) expect(state.version).toBe(100_007)
    expect(uses).toEqual({ appends: 0, reads: 1, events: 8, infos: 0 })
    reset()
    await opened.make({ snapshot })[of].handle('1', one)
    expect(uses).toEqual({ appends: 1, reads: 1, events: 8, infos: 0 })
  }
})

test('a snapshot is made every so many events, in the background, of what is stored', async () => {
  const { deciders, snapshots } = open()
  for (let i = 1; i <= 25; i++) await deciders.handle('1', 1)
  await settle()
  expect(await snapshots.get('c-1', 3)).toEqual({ version: 20, state: { sum: 20 } })
  expect((await snapshots.get('c-1', 3, 19))?.version).toBe(10)
})

test('time travel by version starts from a snapshot at or below it; by time it reads the events', async () => {
  const { deciders, uses, reset } = open()
  for (let i = 1; i <= 35; i++) await deciders.handle('1', 1)
  await settle()
  reset()
  expect((await deciders.load('1', { version: 25 })).state.sum).toBe(25)
  expect(uses.events).toBe(6)
  expect((await deciders.load('1', { version: 20 })).state.sum).toBe(20)
  expect((await deciders.load('1', { version: 9 })).state.sum).toBe(9)
  expect(uses.events).toBe(6 + 1 + 9)
  expect((await deciders.load('1', { asOf: new Date(0) })).state.sum).toBe(0)
})

test('snapshots of another revision are left aside; the class says which its own is', async () => {
  const { store, snapshots } = open()
  await fill(store, 3)
  await snapshots.put('c-1', 2, 2, ['old shape'])
  const tallies = new Repository(store, Tally, { category: 'c', snapshot: { every: 2, store: snapshots } })
  expect((await tallies.load('1')).state.seen).toEqual([1, 1, 1])
  await settle()
  expect(await snapshots.get('c-1', 3)).toEqual({ version: 3, state: [1, 1, 1] })
})

test('a snapshot that can’t be read, that lies ahead or behind a hole is left aside', async () => {
  const { store, snapshots, classes, deciders } = open()
  await fill(store, 5)
  await snapshots.put('c-1', 3, 3, 'rubbish')
  expect((await classes.load('1')).state.seen).toHaveLength(5)
  await snapshots.drop('c-1')
  await snapshots.put('c-1', 3, 9, { sum: 9 }) // of a log that was longer, before it was restored
  expect(await deciders.load('1')).toMatchObject({ version: 5, state: { sum: 5 } })
  await snapshots.drop('c-1')
  await snapshots.put('c-1', 3, 2, { sum: 2 })
  await store.truncate('c-1', 4)
  expect(await deciders.load('1')).toMatchObject({ version: 5, state: { sum: 2 } })
  await snapshots.put('c-1', 3, 3, { sum: 3 })
  expect(await deciders.load('1')).toMatchObject({ version: 5, state: { sum: 5 } }) // goes on where the snapshot ends
  await snapshots.put('c-1', 3, 5, { sum: 5 })
  await store.truncate('c-1', 6)
  expect(await deciders.load('1')).toMatchObject({ version: 5, exists: true, state: { sum: 5 } })
  expect(await deciders.handle('1', 1)).toMatchObject({ version: 6, state: { sum: 6 } })
})

test('a snapshot that lies ahead does not wait until the stream gets there', async () => {
  const { store, snapshots, deciders } = open()
  await fill(store, 2)
  await snapshots.put('c-1', 3, 5, { sum: 99 }) // of a log that was longer, before it was restored
  for (let i = 0; i < 4; i++) await deciders.handle('1', 1)
  expect(await deciders.load('1')).toMatchObject({ version: 6, state: { sum: 6 } })
})

test('a snapshot store that fails costs time and a warning of each kind, nothing else', async () => {
  const warnings: unknown[] = []
  const listen = (warning: unknown) => warnings.push(warning)
  process.on('warning', listen)
  const broken: SnapshotStore = {
    get: () => Promise.reject(new Error('no get')),
    put: () => Promise.reject(new Error('no put')),
    drop: () => Promise.reject(new Error('no drop')),
  }
  const { deciders } = open({ snapshot: { every: 1, revision: 1, store: broken } })
  for (let i = 1; i <= 5; i++) expect((await deciders.handle('1', 1)).state.sum).toBe(i)
  await settle()
  await new Promise((resolve) => setImmediate(resolve))
  process.off('warning', listen)
  expect(warnings.map((w) => (w as Error).message)).toEqual(['no get', 'no put'])
})

test('a state that can’t be kept does not keep later ones from being kept', async () => {
  const { store, snapshots } = open()
  const odd = {
    ...sumOf,
    initial: () => ({ sum: 0, odd: undefined as unknown }),
    evolve: (state: { sum: number }, event: Added) => {
      const total = state.sum + event.data
      return { sum: total, odd: total % 2 ? () => {} : undefined }
    },
  }
  const deciders = new Repository(store, odd, { category: 'c', snapshot: { every: 1, revision: 1, store: snapshots } })
  for (let i = 1; i <= 4; i++) {
    await deciders.handle('1', 1)
    await settle()
    expect((await snapshots.get('c-1', 1))?.version).toBe(i < 2 ? undefined : i - (i % 2))
  }
})

test('an instance given out is its caller’s own, whatever the caller does to it', async () => {
  for (const options of [{ cache: { max: 5 } }, {}, { snapshot: undefined, cache: { max: 5 } }]) {
    const { classes } = open(options)
    const handled = await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        classes.handle('1', (t) => ({ type: 'Added', data: t.seen.push(-1) > 0 ? i : 0 })),
      ),
    )
    for (const { state } of handled) state.seen.push(-2)
    const [a, b] = await Promise.all([classes.load('1'), classes.load('1')])
    expect(a.state).not.toBe(b.state)
    a.state.seen.length = 0
    const expected = Array.from({ length: 30 }, (_, i) => i)
    expect(b.state.seen).toEqual(expected)
    expect((await classes.load('1')).state.seen).toEqual(expected)
  }
})

test('a warm cache: one probe to load, none to decide', async () => {
  for (const of of ['deciders', 'classes'] as const) {
    const { store, uses, reset, ...opened } = open({ snapshot: undefined, cache: { max: 2 } })
    const repository = opened[of]
    await fill(store, 500)
    await repository.load('1')
    reset()
    expect((await repository.load('1')).version).toBe(500)
    expect(uses).toEqual({ appends: 0, reads: 1, events: 1, infos: 0 })
    await fill(store, 3) // somebody else
    reset()
    expect((await repository.load('1')).version).toBe(503)
    expect(uses).toMatchObject({ reads: 1, events: 4 })
    reset()
    await repository.handle('1', one)
    expect(uses).toMatchObject({ reads: 0, appends: 1 })
    await fill(store, 1)
    reset()
    expect(await repository.handle('1', one)).toMatchObject({
      version: 506,
      attempts: 2,
    })
    expect(uses).toMatchObject({ reads: 0, appends: 2 })
    for (const id of ['2', '3']) await repository.handle(id, one) // '1' was used longest ago
    reset()
    await repository.load('1')
    expect(uses.events).toBe(506)
  }
})

test('a cached state is dropped when the stream is not the one it came from', async () => {
  const { deciders, store } = open({ snapshot: undefined, cache: { max: 2 } })
  for (let i = 0; i < 3; i++) await deciders.handle('1', 1)
  await store.truncate('c-1', 4)
  expect(await deciders.load('1')).toMatchObject({ state: { sum: 0 } })
  for (const before of [3, 5]) {
    for (let i = 0; i < 3; i++) await deciders.handle(`${before}`, 1)
    await store.append(`c-${before}`, [one(), one()])
    await store.truncate(`c-${before}`, before + 2) // what it does not know yet, too
    let decided = 0
    const nothing = (): Added[] | Promise<Added[]> => (++decided > 9 ? new Promise(() => {}) : [])
    expect((await deciders.handle(`${before}`, nothing)).state).toEqual((await deciders.load(`${before}`)).state)
  }
  await deciders.handle('2', 1)
  await store.tombstone('c-2')
  await expect(deciders.load('2')).rejects.toMatchObject({ code: 'TOMBSTONED' })
})

test('a cached state is dropped when the log is another one, with as many events', async () => {
  const logs = [new MemoryEventStore<Added>(), new MemoryEventStore<Added>()] as const
  let which: 0 | 1 = 0
  const restored = new Proxy(logs[0], {
    get: (_, name) => (Reflect.get(logs[which], name, logs[which]) as () => void).bind(logs[which]),
  })
  for (const [i, log] of logs.entries())
    await log.append(
      'c-1',
      [1, 2].map((n) => ({ type: 'Added', data: n + 10 * i })),
    )
  const deciders = new Repository(restored, sumOf, { category: 'c', cache: { max: 2 } })
  expect((await deciders.load('1')).state.sum).toBe(3)
  which = 1
  expect((await deciders.load('1')).state.sum).toBe(23)
})

test('missed events that are not all there are not taken for all', async () => {
  const { deciders, store } = open({ snapshot: undefined, cache: { max: 2 } })
  for (let i = 0; i < 3; i++) await deciders.handle('1', 1)
  await fill(store, 3)
  await store.truncate('c-1', 5) // version 4 was never seen
  expect(await deciders.handle('1', 1)).toMatchObject({ version: 7, attempts: 2, state: { sum: 3 } })
})

test('what a snapshot store is given is its own, when it writes late too', async () => {
  const kept = new MemorySnapshots()
  const late: SnapshotStore = {
    get: (...of) => kept.get(...of),
    put: async (...of) => {
      await settle()
      await kept.put(...of)
    },
    drop: (stream) => kept.drop(stream),
  }
  const { classes, store } = open({ snapshot: { every: 2, revision: 3, store: late } })
  await fill(store, 2)
  const { state } = await classes.load('1')
  state.seen.push(99)
  await settle()
  await settle()
  expect(await kept.get('c-1', 3)).toEqual({ version: 2, state: [1, 1] })
})

test('options are checked at construction', () => {
  const store = new MemoryEventStore()
  const snapshots = new MemorySnapshots()
  const make = (options: object, source: object = counter) =>
    new Repository(store, source as never, { category: 'c', ...options })
  expect(() => make({ snapshot: { every: 1, store: snapshots } })).toThrow(/snapshot.revision/)
  expect(() => make({ snapshot: { every: 0, revision: 1, store: snapshots } })).toThrow(/snapshot.every/)
  expect(() => make({ snapshot: { every: 1, revision: 1, store: {} } })).toThrow(/snapshot.store.get/)
  expect(() => make({ snapshot: { every: 1, revision: 1, store: snapshots } }, Counter)).toThrow(
    /snapshot\(\) and restore\(\)/,
  )
  expect(() => make({ cache: { max: 0 } })).toThrow(/cache.max/)
  expect(() => make({ group: 0 })).toThrow(/group/)
  expect(() => make({ patienceMs: 0 })).toThrow(/patienceMs/)
})
