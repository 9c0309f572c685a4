import { DBOS } from '@dbos-inc/dbos-sdk'
import { PostgresSagaStore } from 'holdfast/saga/postgres'
import { OpenWorkflow } from 'openworkflow'
import { BackendPostgres } from 'openworkflow/postgres'
import pg from 'pg'
import { Servers } from '../scripts/servers.mjs'
import { ownTypes } from './pg-types.js'
import { sequential } from './harness.js'
import { freshId, order, runOn, type RunOne } from './saga-orders.js'
import { bareJournal, groupCommit } from './saga-postgres-floors.js'

export const OURS = 'holdfast'
export const DBOS_NAME = 'DBOS 5.3'
export const OPEN_WORKFLOW = 'OpenWorkflow 0.10'
export const BARE = 'pg, a fenced journal by hand, 4 statements'
export const GROUPED = 'pg, the same with group commit (floor)'

/** Connections of each candidate. */
const CONNECTIONS = 10

export interface Databases {
  /** Address of a new one. */
  (name: string): Promise<string>
  /** As the server does by itself within a minute: until then it plans as for small tables. */
  analyze(): Promise<void>
}

/** Of a server that waits for the disk at each commit. */
export async function databases(): Promise<Databases> {
  const { url } = await new Servers().postgres({ fsync: 'on' }) // ends with this process
  const admin = new pg.Client(url)
  await admin.connect()
  const made: string[] = []
  const create = async (name: string): Promise<string> => {
    await admin.query(`create database ${name}`)
    made.push(url.replace(/postgres$/, name))
    return made.at(-1)!
  }
  const analyze = async (): Promise<void> => {
    for (const address of made) {
      const client = new pg.Client(address)
      // oxlint-disable no-await-in-loop -- one after the other
      await client.connect()
      await client.query('analyze')
      await client.end()
      // oxlint-enable no-await-in-loop
    }
  }
  return Object.assign(create, { analyze })
}

export const poolOn = (connectionString: string): pg.Pool =>
  new pg.Pool({ connectionString, max: CONNECTIONS, types: ownTypes })

export async function ourStore(pool: pg.Pool): Promise<PostgresSagaStore> {
  const store = new PostgresSagaStore(pool)
  await store.migrate()
  return store
}

export const QUIET = { info() {}, debug() {}, warn() {}, error: console.error }

async function dbos(connectionString: string): Promise<RunOne> {
  const placeOrder = DBOS.registerWorkflow(
    async (_: typeof order) => {
      await DBOS.runStep(async () => ({ reservation: 'r-1' }), { name: 'reserve' })
      await DBOS.runStep(async () => ({ charge: 'c-1' }), { name: 'charge' })
      await DBOS.runStep(async () => ({ parcel: 'p-1' }), { name: 'ship' })
    },
    { name: 'placeOrder' },
  )
  DBOS.setConfig({
    name: 'bench',
    systemDatabaseUrl: connectionString,
    systemDatabasePoolSize: CONNECTIONS,
    logger: QUIET,
  })
  await DBOS.launch()
  return () => DBOS.withNextWorkflowID(freshId(), () => placeOrder(order))
}

/** Its `result()` asks once a second: the body itself says when it has ended, a moment before that is stored. */
async function openWorkflow(connectionString: string): Promise<RunOne> {
  const backend = await BackendPostgres.connect(connectionString)
  const client = new OpenWorkflow({ backend })
  const ended = new Map<string, () => void>()
  const placeOrder = client.defineWorkflow<typeof order & { id: string }, void>(
    { name: 'place-order' },
    async ({ input, step }) => {
      await step.run({ name: 'reserve' }, async () => ({ reservation: 'r-1' }))
      await step.run({ name: 'charge' }, async () => ({ charge: 'c-1' }))
      await step.run({ name: 'ship' }, async () => ({ parcel: 'p-1' }))
      ended.get(input.id)?.()
      ended.delete(input.id)
    },
  )
  await client.newWorker({ concurrency: 64 }).start()
  return async () => {
    const id = freshId()
    const end = new Promise<void>((resolve) => ended.set(id, resolve))
    await placeOrder.run({ ...order, id })
    await end
  }
}

/** Everything that runs sagas of three steps, by name; the first is the yardstick. */
export async function runners(): Promise<ReadonlyMap<string, RunOne>> {
  const database = await databases()
  const all = new Map([
    [GROUPED, await groupCommit(poolOn(await database('grouped')))],
    [BARE, await bareJournal(poolOn(await database('bare')))],
    [OURS, runOn(await ourStore(poolOn(await database('ours'))))],
    [DBOS_NAME, await dbos(await database('dbos'))],
    [OPEN_WORKFLOW, await openWorkflow(await database('open_workflow'))],
  ])
  for (const [name, run] of all) {
    const count = name === DBOS_NAME || name === OPEN_WORKFLOW ? 100 : 3_000
    const each = Array.from({ length: 50 }, () => sequential(run)(count / 50))
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await Promise.all(each)
  }
  await database.analyze()
  return all
}
