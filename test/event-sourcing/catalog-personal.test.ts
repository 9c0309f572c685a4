import { expect, test } from 'vitest'
import {
  catalogued,
  MemoryEventStore,
  MemorySnapshots,
  MemorySubjectKeys,
  Repository,
  type Catalog,
  type Event,
  type Recorded,
  type SnapshotStore,
} from '../../src/index.js'
import { subjectKeysContract } from '../conformance/subject-keys.js'

subjectKeysContract('memory', async () => {
  const keys = new MemorySubjectKeys()
  return { keys, elsewhere: keys, close: async () => {} }
})

const list = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

type Registered = Event<
  'Registered',
  { readonly id: string; readonly email?: string | undefined; readonly born?: Date | undefined; readonly plan: string }
>

function openPeople() {
  const inner = new MemoryEventStore<Registered>()
  const keys = new MemorySubjectKeys()
  const catalog: Catalog<Registered> = {
    Registered: { personal: { subject: (d) => d.id, fields: ['email', 'born'] } },
  }
  return { inner, keys, store: catalogued(inner, catalog, { keys }) }
}

const ann: Registered = {
  type: 'Registered',
  data: { id: 'ann', email: 'ann@example.org', born: new Date(5), plan: 'basic' },
}

test('personal fields are encrypted in the store, and read as they were', async () => {
  const { inner, store } = openPeople()
  const { events } = await store.append('p', [ann, { ...ann, data: { id: 'bob', plan: 'x' } }, ann])
  expect(events.map((e) => e.data)).toEqual([ann.data, { id: 'bob', plan: 'x' }, ann.data])
  expect((await list(store.read('p'))).map((e) => [e.data, e.metadata])).toEqual(events.map((e) => [e.data, {}]))
  expect((await store.readPage()).events.map((e) => e.data)).toEqual(events.map((e) => e.data))
  const raw = await list(inner.read('p'))
  expect(JSON.stringify(raw)).not.toContain('example')
  expect(raw[0]?.data).toMatchObject({ id: 'ann', plan: 'basic', email: expect.any(String) as string })
  expect(raw[0]?.data.email).not.toBe(raw[2]?.data.email) // a fresh nonce each time
})

test('after shredding, events are still read, without what was personal; others keep theirs', async () => {
  const { keys, store } = openPeople()
  const bob: Registered = { ...ann, data: { ...ann.data, id: 'bob' } }
  await store.append('p', [ann, bob])
  await keys.shred('ann')
  const gone = { id: 'ann', email: undefined, born: undefined, plan: 'basic' }
  for (const events of [await list(store.read('p')), (await store.readPage()).events])
    expect(events.map((e) => e.data)).toEqual([gone, bob.data])
  await expect(store.append('p', [ann])).rejects.toMatchObject({ code: 'SHREDDED', subject: 'ann' })
  expect((await store.info('p'))?.version).toBe(2)
})

test('an encrypted field that was moved or changed is not taken for another', async () => {
  const { inner, keys, store } = openPeople()
  await store.append('p', [ann, ann])
  const [one, two] = (await list(inner.read('p'))) as [Recorded<Registered>, Recorded<Registered>]
  const flipped = `${one.data.email?.startsWith('A') ? 'B' : 'A'}${one.data.email?.slice(1)}`
  for (const data of [
    { ...one.data, email: two.data.email },
    { ...one.data, email: one.data.born as never },
    { ...one.data, email: flipped },
    { ...one.data, email: 'short' },
  ]) {
    const other = new MemoryEventStore<Registered>()
    await other.append('p', [{ ...one, data }])
    const reader = catalogued(other, {}, { keys })
    await expect(list(reader.read('p'))).rejects.toThrow(/version 1 of stream "p"\): "email" can't be decrypted/)
  }
  await expect(list(catalogued(inner, {}).read('p'))).rejects.toThrow(
    /has encrypted fields, and the catalog has no keys/,
  )
})

test('what was written before a field was personal, and after it is no more, is read as it was', async () => {
  const { inner, keys, store } = openPeople()
  await inner.append('p', [ann])
  await store.append('p', [ann])
  expect((await list(store.read('p'))).map((e) => e.data)).toEqual([ann.data, ann.data])
  const later = catalogued(inner, {}, { keys })
  expect((await list(later.read('p'))).map((e) => e.data)).toEqual([ann.data, ann.data])
})

test('data without a subject, or that is no plain object, is refused', async () => {
  const { store } = openPeople()
  for (const data of [{ id: '' }, { id: 7 }, [], null, new Date(), new Map()])
    await expect(store.append('p', [{ type: 'Registered', data } as never])).rejects.toMatchObject({
      code: 'INVALID_PAYLOAD',
    })
})

test('symbols as keys beside personal fields are refused, as they are elsewhere, and not dropped', async () => {
  const { inner, keys, store } = openPeople()
  for (const enumerable of [true, false]) {
    const data = Object.defineProperty({ ...ann.data }, Symbol('s'), { value: 1, enumerable })
    const refused = store.append('p', [{ type: 'Registered', data }])
    await expect(refused).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
    await expect(refused).rejects.toThrow(/event "Registered" is not valid: .*symbols/)
  }
  expect([(await inner.readPage()).head, (await keys.get(['ann'])).size]).toEqual([0, 0])
})

test('states that hold what was personal are forgotten when one says so, also when a snapshot is just being written', async () => {
  const { keys, store } = openPeople()
  const kept = new MemorySnapshots()
  let write!: () => void
  const slow: SnapshotStore = {
    get: (...of) => kept.get(...of),
    put: async (...of) => {
      await new Promise<void>((resolve) => (write = resolve))
      await kept.put(...of)
    },
    drop: (stream) => kept.drop(stream),
  }
  const emails = new Repository(
    store,
    {
      initial: (): { emails: unknown[] } => ({ emails: [] }),
      decide: (command: Registered) => command,
      evolve: (state, event: Registered) => ({ emails: [...state.emails, event.data.email] }),
    },
    { category: 'p', cache: { max: 9 }, snapshot: { every: 1, revision: 1, store: slow } },
  )
  await emails.handle('1', ann)
  await keys.shred('ann')
  expect((await emails.load('1')).state.emails).toEqual(['ann@example.org'])
  const forgotten = emails.forget('1')
  write()
  await forgotten
  expect(await kept.get(emails.stream('1'), 1)).toBeUndefined()
  expect((await emails.load('1')).state.emails).toEqual([undefined])
})
