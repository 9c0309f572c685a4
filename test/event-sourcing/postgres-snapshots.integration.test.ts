import { onTestFinished, test, expect } from 'vitest'
import { Repository } from '../../src/event-sourcing/index.js'
import { PostgresSnapshots } from '../../src/event-sourcing/postgres.js'
import { randomId } from '../../src/kernel/random.js'
import { snapshotStoreContract } from '../conformance/snapshot-store.js'
import { counter } from './counter.js'
import { openPool, openStore } from './database.js'

const pool = openPool()
const schema = `es_${randomId()}`

snapshotStoreContract('PostgreSQL', async () => {
  const snapshots = new PostgresSnapshots(pool, { schema })
  await snapshots.migrate()
  return { snapshots, close: async () => void (await pool.query(`drop schema "${schema}" cascade`)) }
})

test('a hot stream with snapshots and a cache in PostgreSQL: two processes, every command once, in few appends', async () => {
  const { store, schema: mine } = await openStore(pool)
  const open = () =>
    new Repository(store, counter, {
      category: 'hot',
      retries: 1_000,
      cache: { max: 10 },
      snapshot: { every: 50, revision: 1, store: new PostgresSnapshots(pool, { schema: mine }) },
    })
  const processes = [open(), open()] as const
  await processes[0].handle('1', { kind: 'open', limit: 300 })
  const calls = Array.from({ length: 400 }, (_, i) => processes[i % 2 ? 1 : 0].handle('1', { kind: 'add', n: 1 }))
  const outcomes = await Promise.allSettled(calls)
  expect(outcomes.filter((o) => o.status === 'fulfilled')).toHaveLength(300)
  for (const o of outcomes) if (o.status === 'rejected') expect(o.reason).toMatchObject({ message: 'over the limit' })
  const plain = await new Repository(store, counter, { category: 'hot' }).load('1')
  expect(plain).toMatchObject({ version: 301, state: { total: 300 } })
  for (const process of [...processes, open()]) expect(await process.load('1')).toEqual(plain)
  const versions = outcomes.flatMap((o) => (o.status === 'fulfilled' ? [o.value.version] : []))
  expect(versions.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 300 }, (_, i) => i + 2))
  const { rows } = await pool.query(`select count(distinct at) as appends from "${mine}".es_events`)
  onTestFinished(() => {})
  expect(Number(rows[0].appends)).toBeLessThan(100)
})
