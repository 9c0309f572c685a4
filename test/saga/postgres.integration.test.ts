import { setTimeout as sleep } from 'node:timers/promises'
import { sagaStoreContract } from '../conformance/saga-store.js'
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
