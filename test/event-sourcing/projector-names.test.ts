import { expect, onTestFinished, test } from 'vitest'
import {
  MemoryEventStore,
  MemoryProjector,
  type Event,
  type MemoryTransaction,
  type Projection,
} from '../../src/event-sourcing/index.js'
import { settle } from '../../src/testing/index.js'

type Counting = Projection<Event, MemoryTransaction>

/** Counts the events in a table. */
const counting = (name: string, table: string, more: Partial<Counting> = {}): Counting => ({
  name,
  on: ['e'],
  setup({ tx, name: full }) {
    tx.table<number>(full(table)).set('count', 0)
  },
  project(events, { tx, name: full }) {
    const rows = tx.table<number>(full(table))
    rows.set('count', (rows.get('count') ?? 0) + events.length)
  },
  ...more,
})

function open() {
  const store = new MemoryEventStore()
  const projector = new MemoryProjector(store)
  const append = async () => (await store.append('s', [{ type: 'e', data: 1 }])).position
  return { store, projector, append }
}

test('what is inline is projected once: nothing else takes it up', async () => {
  const { projector, append } = open()
  const projection = counting('p', 'counts')
  projector.inline(projection)
  await append()
  const refused = { code: 'INVALID_OPTION', message: /^projection.name: .*not inline already, got "p"$/ }
  expect(() => projector.inline(projection)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  expect(() => projector.run(projection)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  await expect(projector.rebuild({ ...projection, revision: 2 })).rejects.toMatchObject(refused)
  await append()
  await settle()
  expect(projector.table('counts').get('count')).toBe(2)
})

test('a table belongs to one projection: another that names it ends, and changes nothing of it', async () => {
  const { projector, append } = open()
  const first = projector.run(counting('first', 'counts'))
  onTestFinished(() => first.stop())
  await first.reached(await append(), 1_000)
  const second = projector.run(counting('second', 'counts'))
  const failed = new Promise<unknown>((resolve) => second.on('failed', ({ error }) => resolve(error)))
  expect(await failed).toMatchObject({
    code: 'INVALID_OPTION',
    message: 'table: expected a name that no other projection has, got "counts"',
  })
  expect(projector.table('counts').get('count')).toBe(1)
})

test('the table of a discarded revision may be another projection’s', async () => {
  const { projector, append } = open()
  const first = projector.run(counting('first', 'counts'))
  onTestFinished(() => first.stop())
  const rebuild = await projector.rebuild(counting('first', 'sums', { revision: 2 }))
  await rebuild.discard()
  const second = projector.run(counting('second', 'sums'))
  onTestFinished(() => second.stop())
  const position = await append()
  await Promise.all([first.reached(position, 1_000), second.reached(position, 1_000)])
  expect([projector.table('counts').get('count'), projector.table('sums').get('count')]).toEqual([1, 1])
})
