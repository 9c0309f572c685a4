import type { PGlite } from '@electric-sql/pglite'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { MemoryEventBus } from '../../src/messaging/index.js'
import { PostgresInbox } from '../../src/messaging/postgres.js'
import { inboxContract } from '../conformance/inbox.js'
import { openPGlite } from '../support/pglite.js'
import { openInbox, openPool } from './database.js'

const pool = openPool()
// Whatever the role's isolation is by default, a call that has waited must see what it waited for.
const strict = openPool({ options: '-c default_transaction_isolation=serializable' })

inboxContract('PostgresInbox', (options) => openInbox(pool, options))
inboxContract('PostgresInbox, serializable by default', (options) => openInbox(strict, options))

let embedded: PGlite
beforeAll(async () => {
  embedded = await openPGlite()
}, 120_000)
afterAll(() => embedded.close())
inboxContract('PostgresInbox on PGlite', (options) => openInbox(embedded, options))

async function open() {
  const opened = await openInbox(pool)
  onTestFinished(opened.close)
  return opened
}

test('the table is made once when eight processes start at the same moment', async () => {
  const { schema, close } = await openInbox(pool)
  await close()
  onTestFinished(close)
  const boxes = Array.from({ length: 8 }, () => new PostgresInbox(pool, { schema }))
  await Promise.all(boxes.map((box) => box.migrate()))
  expect(await boxes[0]!.once('g', 'a', async () => {})).toBe(true)
})

test('a batch runs its work once with those that are new, in their order, or with none', async () => {
  const { inbox, write, effects } = await open()
  await inbox.once('g', 'b', async () => {})
  const seen: (readonly string[])[] = []
  const work: Parameters<PostgresInbox['onceEach']>[2] = async (tx, ids) => {
    seen.push(ids)
    for (const id of ids) await write(tx, id)
  }
  expect(await inbox.onceEach('g', ['c', 'b', 'a', 'c'], work)).toEqual(['c', 'a'])
  expect(await inbox.onceEach('g', ['a', 'b', 'c'], work)).toEqual([])
  expect(await inbox.onceEach('g', [], work)).toEqual([])
  expect(seen).toEqual([['c', 'a']])
  await expect(
    inbox.onceEach('g', ['d', 'e'], async (tx) => {
      await write(tx, 'half')
      throw new Error('no')
    }),
  ).rejects.toThrow('no')
  expect(await effects()).toEqual(['c', 'a'])
  expect(await inbox.onceEach('g', ['e', 'd'], work)).toEqual(['e', 'd'])
})

test('batches and single calls that overlap in any order wait for each other and never in a circle', async () => {
  const { inbox, write, effects } = await open()
  const ids = Array.from({ length: 40 }, (_, i) => `m${i}`)
  const shuffled = (): string[] => ids.toSorted(() => Math.random() - 0.5)
  for (let round = 0; round < 5; round++) {
    await Promise.all([
      ...Array.from({ length: 8 }, () =>
        inbox.onceEach(`g${round}`, shuffled(), async (tx, fresh) => {
          for (const id of fresh) await write(tx, `${round} ${id}`)
        }),
      ),
      ...shuffled().map((id) => inbox.once(`g${round}`, id, (tx) => write(tx, `${round} ${id}`))),
    ])
  }
  const all = await effects()
  expect(all).toHaveLength(200)
  expect(new Set(all).size).toBe(200)
})

test('a statement that failed undoes the whole, also when the work has caught its error', async () => {
  const { inbox, write, effects } = await open()
  const caught = inbox.once('g', 'a', async (tx) => {
    await write(tx, 'half')
    await tx.query('select 1 / 0').catch(() => {})
  })
  await expect(caught).rejects.toMatchObject({ code: 'STORE_FAILED' })
  expect(await effects()).toEqual([])
  expect(await inbox.once('g', 'a', (tx) => write(tx, 'whole'))).toBe(true)
})

test('the row and the effect take one round trip less than four statements', async () => {
  const { inbox, write } = await open()
  const sent: string[] = []
  const client = await pool.connect()
  onTestFinished(() => client.release())
  const spied = {
    query: (text: string, params?: unknown[]) => {
      sent.push(text)
      return client.query(text, params)
    },
  }
  const { schema } = await openInbox(pool)
  const once = new PostgresInbox(spied, { schema })
  onTestFinished(async () => void (await pool.query(`drop schema "${schema}" cascade`)))
  await once.once('g', 'a', (tx) => write(tx, 'x'))
  expect(sent.filter((text) => !text.includes('delete'))).toHaveLength(3)
  expect(inbox).toBeInstanceOf(PostgresInbox)
})

test('as the inbox of a subscription: a message that is published twice, side by side, has its effect once', async () => {
  const { inbox, write, effects } = await open()
  const bus = new MemoryEventBus()
  await bus.subscribe({
    group: 'stock',
    types: '*',
    order: 'none',
    inbox,
    retry: { backoff: () => 5 },
    handle: async ({ id }, { tx, attempt }) => {
      await write(tx, id)
      if (attempt === 1 && id === 'm3') throw new Error('once more')
    },
  })
  const ids = Array.from({ length: 20 }, (_, i) => `m${i}`)
  await bus.publish([...ids, ...ids].map((id) => ({ id, type: 't', data: 1 })))
  await expect.poll(() => bus.stats()[0]?.waiting ?? 0).toBe(0)
  await expect.poll(effects).toHaveLength(20)
  await bus.close()
  expect((await effects()).toSorted()).toEqual(ids.toSorted())
})

test('what is no database or no number is refused by name', async () => {
  expect(() => new PostgresInbox({} as never)).toThrow(/^db/)
  expect(() => new PostgresInbox(pool, { retainMs: -1 })).toThrow(/^retainMs/)
  expect(() => new PostgresInbox(pool, { schema: '' })).toThrow(/^schema/)
  const dead = new PostgresInbox(pool, { schema: 'not_there' })
  await expect(dead.once('g', 'a', async () => {})).rejects.toMatchObject({ code: 'STORE_FAILED' })
})
