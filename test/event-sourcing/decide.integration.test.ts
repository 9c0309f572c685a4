import { openPool, openStore } from './database.js'
import { decisionsHold } from './seats.js'

const pool = openPool()

decisionsHold('PostgreSQL', async () => (await openStore(pool)).store, 'its appends do not know `unless` yet')
