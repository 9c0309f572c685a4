import type { EventStore } from '../event-sourcing/index.js'
import { PostgresEventStore } from '../event-sourcing/postgres.js'
import { UsageError, type Terminal } from './terminal.js'

/** Opens the log that the options name. @throws UsageError when they name none. */
export async function openStore(
  values: { readonly 'database-url'?: string | undefined; readonly schema?: string | undefined },
  { env }: Terminal,
): Promise<{ readonly store: EventStore } & AsyncDisposable> {
  const url = values['database-url'] ?? env['DATABASE_URL']
  if (url === undefined) throw new UsageError('no database: give --database-url, or set DATABASE_URL')
  const Pool = await driver()
  const pool = new Pool({ connectionString: url, max: 2, application_name: 'holdfast' })
  pool.on('error', () => {}) // the next query tells of it
  const store = new PostgresEventStore(pool, values.schema === undefined ? {} : { schema: values.schema })
  return {
    store,
    async [Symbol.asyncDispose]() {
      await store.close()
      await pool.end()
    },
  }
}

/** The user's own `pg`. */
async function driver(): Promise<typeof import('pg').Pool> {
  try {
    return (await import('pg')).default.Pool
  } catch (cause) {
    throw new Error('the driver is missing: npm install pg', { cause })
  }
}
