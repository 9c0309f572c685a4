import pg from 'pg'
import type { Event, Projection } from '../../src/event-sourcing/index.js'
import { PostgresEventStore, PostgresProjector } from '../../src/event-sourcing/postgres.js'
import type { SqlQueryable } from '../../src/kernel/postgres.js'

// One process that keeps a read model: it runs a revision, or builds and activates it, until it is killed.

export type Counted = Event<'counted' | 'other', number>

/** What a worker is told. */
export interface Job {
  /** Database of the log, and of the read model. */
  readonly log: string
  readonly read: string
  readonly schema: string
  readonly revision: number
  readonly activate: boolean
  readonly batch: number
}

/** Per stream: how many events, their sum, and a fingerprint of their order; and what was sent for each event. */
export const counts = (schema: string, revision: number): Projection<Counted, SqlQueryable> => ({
  name: 'counts',
  revision,
  on: ['counted'],
  async setup({ tx, name }) {
    await tx.query(
      `create table ${name('counts')} (stream text primary key, n int, sum bigint, print text ${revision > 1 ? ', revision int default 2' : ''})`,
    )
    await tx.query(`create table if not exists "${schema}".sent (pos bigint, revision int)`) // no key: what is sent twice is seen
  },
  async project(events, { tx, name, replaying }) {
    for (const { streamId, data, position } of events) {
      // oxlint-disable no-await-in-loop -- slowly, so that it dies in the middle
      await tx.query(
        `insert into ${name('counts')} as c (stream, n, sum, print) values ($1, 1, $2, md5($3::text))
         on conflict (stream) do update set n = c.n + 1, sum = c.sum + $2, print = md5(c.print || $3)`,
        [streamId, data, String(position)],
      )
      if (!replaying) await tx.query(`insert into "${schema}".sent values ($1, $2)`, [position, revision])
      // oxlint-enable no-await-in-loop
    }
  },
})

async function run({ log, read, schema, revision, activate, batch }: Job): Promise<void> {
  const [logPool, readPool] = [log, read].map((connectionString) => new pg.Pool({ connectionString, max: 4 }))
  const store = new PostgresEventStore<Counted>(logPool!, { schema })
  const projector = new PostgresProjector(store, readPool!, { schema })
  const options = { batch, leaseMs: 600, pollMs: 50 }
  setInterval(() => {}, 1_000) // lives until it is killed
  if (!activate) {
    const subscription = projector.run(counts(schema, revision), options)
    subscription.on('failed', ({ error }) => process.send?.({ failed: String(error) }))
    process.send?.('ready')
    return
  }
  const rebuild = await projector.rebuild(counts(schema, revision), options)
  rebuild.subscription.on('failed', ({ error }) => process.send?.({ failed: String(error) }))
  process.send?.('ready')
  await rebuild.activate()
  process.send?.('activated')
}

if (process.send)
  process.once('message', (job) => {
    run(job as Job).catch((error: unknown) => process.send?.({ failed: String(error) }))
  })
