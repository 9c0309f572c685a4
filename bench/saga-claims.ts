import type pg from 'pg'
import { quantile, type Survey } from './harness.js'
import { placeOrder } from './saga-orders.js'
import { ourStore, OURS, poolOn } from './saga-postgres-stores.js'

const LIVE = 100_000
const EXPIRED = 100
const RENEWED = 500
const ROUNDS = 20
const FLOOR = 'pg, one statement by hand (floor)'

const KNOWN = { name: placeOrder.name, version: placeOrder.version, hash: placeOrder.hash }
const FAR = 10_000_000

/** Live sagas as the store has them; the floors use the same table. */
async function filled(pool: pg.Pool): Promise<Awaited<ReturnType<typeof ourStore>>> {
  const store = await ourStore(pool)
  await store.create({ id: 'first', ...KNOWN, input: '{}', deadlineMs: null, leaseMs: FAR })
  await pool.query(
    `insert into holdfast.sagas (key, kind, name, version, hash, input, created_at, updated_at, epoch, leased, wake_at)
      select 'live-' || i, kind, name, version, hash, input, created_at, updated_at, 1, true, wake_at + i
      from holdfast.sagas, generate_series(1, $1::int) as i where key = 'first'`,
    [LIVE],
  )
  await pool.query(
    `insert into holdfast.saga_records (no, position, record)
      select no, p, '{"at":1,"entries":[{"type":"done","path":"reserve","value":"{}"}]}' from holdfast.sagas, generate_series(0, 1) as p`,
  )
  await pool.query('vacuum analyze')
  return store
}

const BY_HAND = {
  claim: `with now as materialized (select extract(epoch from clock_timestamp()) * 1000 as now), due as materialized (
      select key from holdfast.sagas, now where kind = $1 and wake_at <= now.now and wake_at < 'Infinity'
      order by wake_at limit $2 for update skip locked)
    update holdfast.sagas s set epoch = epoch + 1, leased = true, wake_at = $3 from due where s.key = due.key returning s.*`,
  renew: `update holdfast.sagas s set wake_at = wake_at + 1 from unnest($1::text[]) as l (key) where s.key = l.key and s.epoch = 1`,
}

/** The statements of whoever looks after many sagas. */
export async function sagaClaims(database: (name: string) => Promise<string>): Promise<readonly Survey[]> {
  const pool = poolOn(await database('claims'))
  const store = await filled(pool)
  const kind = `${KNOWN.version} ${KNOWN.name}`
  const ids = Array.from({ length: RENEWED }, (_, i) => `live-${50_000 + i}`)
  const expire = (): Promise<unknown> =>
    pool.query(
      `update holdfast.sagas set wake_at = 1 where key = any (select 'live-' || i from generate_series(1, $1) as i)`,
      [EXPIRED],
    )
  const claims: Record<string, () => Promise<number>> = {
    [FLOOR]: async () =>
      (await pool.query({ name: 'claim', text: BY_HAND.claim, values: [kind, EXPIRED, Date.now() + FAR] })).rowCount ??
      0,
    [OURS]: async () => (await store.claim({ known: [KNOWN], limit: EXPIRED, leaseMs: FAR })).claimed.length,
  }
  const renewals: Record<string, () => Promise<number>> = {
    [FLOOR]: async () => (await pool.query({ name: 'renew', text: BY_HAND.renew, values: [ids] })).rowCount ?? 0,
    [OURS]: async () =>
      (
        await store.renew(
          ids.map((id) => ({ id, epoch: 1 })),
          FAR,
        )
      ).filter((one) => one !== 'fenced').length,
  }
  const of = (title: string, ways: typeof claims, wanted: number, before?: () => Promise<unknown>): Survey => ({
    title,
    columns: ['p50, ms', 'most, ms'],
    survey: async () => {
      const took = new Map(Object.keys(ways).map((name) => [name, [] as number[]]))
      for (let round = 0; round < ROUNDS; round++) {
        for (const [name, way] of Object.entries(ways)) {
          // oxlint-disable no-await-in-loop -- one after the other
          await before?.()
          const start = performance.now()
          const got = await way()
          // oxlint-enable no-await-in-loop
          if (got !== wanted) throw new Error(`${title}: ${name} got ${got}`)
          if (round > 0) took.get(name)?.push(performance.now() - start) // the first prepares
        }
      }
      return { rows: [...took].map(([name, ms]) => [name, ...[0.5, 1].map((q) => quantile(ms, q).toFixed(1))]) }
    },
  })
  const [live, renewed] = [LIVE, RENEWED].map((n) => n.toLocaleString('en-US'))
  return [
    of(
      `Sagas on PostgreSQL, ${EXPIRED} expired among ${live} live claimed, with their journals`,
      claims,
      EXPIRED,
      expire,
    ),
    of(`Sagas on PostgreSQL, ${renewed} leases of ${live} renewed`, renewals, RENEWED),
  ]
}
