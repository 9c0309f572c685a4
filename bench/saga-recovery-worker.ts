import { setTimeout as sleep } from 'node:timers/promises'
import { DBOS } from '@dbos-inc/dbos-sdk'
import { saga, SagaOrchestrator } from 'holdfast/saga'
import { freshId } from './saga-orders.js'
import { DBOS_NAME, ourStore, OURS, poolOn, QUIET } from './saga-postgres-stores.js'
import { LEASE_MS, SAGAS, type Told } from './saga-recovery.js'

// One of two processes on one database. The one that dies begins sagas when it is told to and hangs in a body of each; the other waits.

const [name = '', url = '', role] = process.argv.slice(2)
const dies = role === 'dies'
const tell = (told: Told): void => void process.send!(told)

async function second(): Promise<void> {
  if (!dies) return
  tell('hanging')
  await sleep(1e9)
}

const libraries: Record<string, () => Promise<() => Promise<unknown>>> = {
  [OURS]: async () => {
    const store = await ourStore(poolOn(url))
    const definition = saga('hangs', { version: 1 })
      .step('first', { run: async () => 1 })
      .step('second', { run: second })
      .build()
    const orchestrator = new SagaOrchestrator({ store, sagas: [definition], leaseMs: LEASE_MS })
    orchestrator.on('settled', () => tell('ended'))
    orchestrator.start()
    return () => orchestrator.run(definition, undefined, { id: freshId() })
  },
  [DBOS_NAME]: async () => {
    const workflow = DBOS.registerWorkflow(
      async () => {
        await DBOS.runStep(async () => 1, { name: 'first' })
        await DBOS.runStep(second, { name: 'second' })
        tell('ended')
      },
      { name: 'hangs' },
    )
    // as two machines of one deployment
    const identity = { executorID: role, applicationVersion: '1' }
    DBOS.setConfig({ name: 'bench', systemDatabaseUrl: url, logger: QUIET, ...identity })
    await DBOS.launch()
    return () => DBOS.startWorkflow(workflow, { workflowID: freshId() })()
  },
}

const begin = await libraries[name]!()
process.once('disconnect', () => process.exit()) // whoever asks has gone
process.once('message', () => void Promise.all(Array.from({ length: SAGAS }, begin)))
tell('ready')
