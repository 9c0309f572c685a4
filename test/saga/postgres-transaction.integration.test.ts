import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { SqlQueryable } from '../../src/kernel/postgres.js'
import { randomId } from '../../src/kernel/random.js'
import { constant, saga, SagaOrchestrator, type SagaDefinition } from '../../src/saga/index.js'
import { openPool, openStore } from './database.js'

const pool = openPool()
let table: string
beforeEach(async () => {
  table = `effects_${randomId().replaceAll('-', '')}`
  await pool.query(`create table ${table} (key text primary key, n int unique deferrable initially deferred)`)
})

const insert = (tx: SqlQueryable, key: string, n: number | null = null): Promise<unknown> =>
  tx.query(`insert into ${table} values ($1, $2)`, [key, n])
const effects = async (): Promise<string[]> =>
  (await pool.query<{ key: string }>(`select key from ${table} order by key`)).rows.map(({ key }) => key)

async function settled(definition: SagaDefinition<number, never>, id = '1') {
  const { store, drop } = await openStore(pool)
  const orchestrator = new SagaOrchestrator({ store, sagas: [definition], graceMs: 50 })
  orchestrator.start()
  onTestFinished(async () => {
    await orchestrator.close()
    await drop()
  })
  const handle = await orchestrator.run(definition, 1, { id })
  const outcome = await handle.settled({ signal: AbortSignal.timeout(30_000) })
  return { outcome, orchestrator, store, id }
}

describe('a transaction on PostgreSQL', () => {
  test('writes the effect and the record of it together, and what fails leaves neither', async () => {
    const order = saga<number>('order', { version: 1 })
      .transaction('good', { run: ({ tx }) => insert(tx, 'good').then(() => 7) })
      .transaction('bad', {
        run: async ({ tx, attempt }) => {
          await insert(tx, `bad ${attempt}`)
          throw new Error('no')
        },
        retry: { attempts: 3, backoff: constant(1) },
      })
      .build()
    const { outcome, orchestrator, id } = await settled(order as never)
    expect(outcome.status).toBe('compensated')
    expect(await effects()).toEqual(['good'])
    expect((await orchestrator.get(id))?.nodes).toMatchObject([{ status: 'done' }, { status: 'failed', attempt: 3 }])
  })

  test('is undone in a transaction', async () => {
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', {
        run: ({ tx, key }) => insert(tx, key).then(() => key),
        compensate: ({ tx, result }) => tx.query(`delete from ${table} where key = $1`, [result]),
      })
      .step('bad', { run: () => Promise.reject(new Error('no')) })
      .build()
    expect((await settled(order as never)).outcome.status).toBe('compensated')
    expect(await effects()).toEqual([])
  })

  test('whose statement hangs ends with its time, whatever holds it up', async () => {
    const holder = await pool.connect()
    await holder.query('begin')
    await insert(holder, 'contested')
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', { run: ({ tx }) => insert(tx, 'contested'), timeoutMs: 200 })
      .build()
    const { outcome } = await settled(order as never)
    expect(outcome).toMatchObject({ status: 'compensated', failure: { error: { code: 'TIMEOUT' } } })
    await holder.query('rollback')
    holder.release()
    await sleep(100) // the statement of the closed connection may go on now: it must not count
    expect(await effects()).toEqual([])
  })

  test('refuses what its body asks after the end', async () => {
    const late: unknown[] = []
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', {
        run: ({ tx }) => {
          void sleep(100).then(() => insert(tx, 'late').catch((error: Error) => late.push(error.message)))
          return insert(tx, 'in time')
        },
      })
      .build()
    expect((await settled(order as never)).outcome.status).toBe('completed')
    await sleep(200)
    expect([await effects(), late]).toEqual([['in time'], [expect.stringContaining('over')]])
  })

  test('whose body has swallowed the error of a statement fails, and is not tried for ever', async () => {
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', {
        run: async ({ tx }) => {
          await insert(tx, 'before')
          await tx.query('select 1 / 0').catch(() => {})
          return 'fine?'
        },
        retry: { attempts: 2, backoff: constant(1) },
      })
      .build()
    const { outcome } = await settled(order as never)
    expect(outcome).toMatchObject({ status: 'compensated', failure: { path: 'ledger' } })
    expect(await effects()).toEqual([])
  })

  test('that breaks a constraint checked at the commit fails as one that throws', async () => {
    await insert(pool, 'there', 1)
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', { run: ({ tx }) => insert(tx, 'second', 1) })
      .build()
    const { outcome } = await settled(order as never)
    expect(outcome).toMatchObject({
      status: 'compensated',
      failure: { path: 'ledger', error: { code: 'STORE_FAILED' } },
    })
    expect(await effects()).toEqual(['there'])
  })

  test('whose connection is cut is rolled back and tried as its retry says', async () => {
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', {
        run: async ({ tx, attempt }) => {
          await insert(tx, `attempt ${attempt}`)
          if (attempt > 1) return
          const { rows } = (await tx.query('select pg_backend_pid() as pid')) as { rows: { pid: number }[] }
          await pool.query('select pg_terminate_backend($1)', [rows[0]?.pid])
          await sleep(50)
        },
        retry: { attempts: 2, backoff: constant(1) },
      })
      .build()
    expect((await settled(order as never)).outcome.status).toBe('completed')
    expect(await effects()).toEqual(['attempt 2'])
  })
})
