import { Pool } from 'pg'
import { inject, onTestFinished } from 'vitest'

/** An empty database, gone with the test. */
export async function ownDatabase() {
  const admin = new Pool({ connectionString: inject('postgresUrl'), max: 1 })
  const name = `storefront_${crypto.randomUUID().slice(0, 8)}`
  await admin.query(`create database ${name}`)
  const url = new URL(inject('postgresUrl'))
  url.pathname = `/${name}`
  const pool = new Pool({ connectionString: url.href, max: 4 })
  pool.on('error', () => {})
  onTestFinished(async () => {
    await pool.end()
    await admin.query(`drop database ${name} with (force)`)
    await admin.end()
  })
  return {
    url: url.href,
    pool,
    /** Lets nobody in, and sends away who is in. */
    async away(yes: boolean): Promise<void> {
      await admin.query(`alter database ${name} allow_connections ${!yes}`)
      if (yes) await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [name])
    },
  }
}
