import { setTimeout as sleep } from 'node:timers/promises'
import { sagaStoreContract } from '../conformance/saga-store.js'
import { compareWithMemory, sagaOperations } from '../conformance/saga-store-model.js'
import { prop } from '../support/prop.js'
import { openListener, openPool, openStore } from './database.js'

const pool = openPool()

for (const listening of [false, true]) {
  sagaStoreContract(`PostgresSagaStore${listening ? ', with a listener' : ''}`, async () => {
    const listener = listening ? await openListener() : undefined
    const { store, drop } = await openStore(pool, { listener })
    return {
      store,
      advance: (ms) => sleep(ms),
      close: async () => {
        await drop()
        await listener?.end()
      },
    }
  })
}

prop(
  'PostgresSagaStore: answers as the one in memory does, whatever is asked of it in whatever order',
  [sagaOperations],
  async (operations) => {
    const { store, drop } = await openStore(pool)
    try {
      await compareWithMemory(store, operations)
    } finally {
      await drop()
    }
  },
  { numRuns: 40 },
)
