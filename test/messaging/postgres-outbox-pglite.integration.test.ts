import type { PGlite } from '@electric-sql/pglite'
import { afterAll, beforeAll } from 'vitest'
import { openPGlite } from '../support/pglite.js'
import { outboxLaws } from './outbox-laws.js'

let db: PGlite
beforeAll(async () => {
  db = await openPGlite()
}, 120_000)
afterAll(() => db.close())

outboxLaws('PostgresOutbox on PGlite', () => db)
