import { Pool } from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { startPaymentProvider } from '../../examples/storefront/payment-provider.js'
import { until } from './storefront-client.js'
import { flip, start, type Running } from './storefront-process.js'

/** A database of this test's own, and a provider that lives on when shops die, so that the money can be counted. */
async function openStreet(): Promise<{ pool: Pool; args: string[]; charged: () => Promise<number> }> {
  const admin = new Pool({ connectionString: inject('postgresUrl'), max: 1 })
  const name = `storefront_${crypto.randomUUID().slice(0, 8)}`
  await admin.query(`create database ${name}`)
  const url = new URL(inject('postgresUrl'))
  url.pathname = `/${name}`
  const pool = new Pool({ connectionString: url.href, max: 2 })
  pool.on('error', () => {})
  const provider = await startPaymentProvider()
  onTestFinished(async () => {
    await pool.end()
    await provider.close()
    await admin.query(`drop database ${name} with (force)`)
    await admin.end()
  })
  return {
    pool,
    args: ['--port', '0', '--postgres', url.href, '--payment', provider.url],
    charged: async () => ((await (await fetch(`${provider.url}/ledger`)).json()) as { charged: number }).charged,
  }
}

interface Counts {
  readonly placed: number
  readonly shipped: number
  readonly cancelled: number
}

/** What the log itself says of every order. */
async function ordersOf(pool: Pool): Promise<Counts> {
  const { rows } = await pool.query<{ shipped: boolean; cancelled: boolean; n: number }>(
    `select shipped, cancelled, count(*)::int as n from (
       select stream, bool_or(type = 'OrderShipped') as shipped, bool_or(type = 'OrderCancelled') as cancelled
       from storefront.es_events group by stream) s group by 1, 2`,
  )
  const of = (shipped: boolean, cancelled: boolean): number =>
    rows.find((row) => row.shipped === shipped && row.cancelled === cancelled)?.n ?? 0
  expect(of(true, true)).toBe(0)
  return { placed: of(false, false), shipped: of(true, false), cancelled: of(false, true) }
}

const countOf = async (pool: Pool, query: string): Promise<number> =>
  (await pool.query<{ n: number }>(`select count(*)::int as n from ${query}`)).rows[0]?.n ?? NaN

test(
  'of two shops on one database one is killed under load: every order ends, and no money and no stock is in the wrong place',
  { timeout: 120_000 },
  async () => {
    const { pool, args, charged } = await openStreet()
    const survivor = await start(...args, '--rate', '10')
    const kill = async (): Promise<Running> => {
      const victim = await start(...args, '--rate', '20')
      const before = await ordersOf(pool)
      await until(async () => (await ordersOf(pool)).shipped > before.shipped + 10 || undefined, 30_000)
      await flip(victim.url, { payment: 'slow' }) // so that many are in the middle of something
      await until(async () => (await ordersOf(pool)).placed > 8 || undefined, 30_000)
      victim.child.kill('SIGKILL')
      expect(await victim.ended).toBe('SIGKILL')
      return victim
    }
    await kill()
    await flip(survivor.url, { payment: 'ok' })
    await kill()
    await flip(survivor.url, { payment: 'ok', load: false })
    await until(async () => (await ordersOf(pool)).placed === 0 || undefined, 60_000)
    // an order is shipped before its parcel is picked up
    const unended = `storefront.sagas where status not in (3, 4)`
    await until(async () => (await countOf(pool, unended)) === 0 || undefined, 30_000)
    const orders = await ordersOf(pool)
    expect(orders.shipped).toBeGreaterThan(20)
    expect(await countOf(pool, 'storefront.sagas where status = 3')).toBe(orders.shipped)
    expect(await charged()).toBe(orders.shipped)
    expect(await countOf(pool, 'storefront.reservations where not released')).toBe(orders.shipped)
  },
)
