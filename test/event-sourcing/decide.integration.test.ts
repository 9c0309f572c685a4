import { openPool, openStore } from './database.js'
import { decisionsHold } from './seats.js'

const pool = openPool()

decisionsHold('PostgreSQL', async () => (await openStore(pool)).store)
