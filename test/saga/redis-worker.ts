import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { saga, SagaOrchestrator } from '../../src/saga/index.js'
import { RedisSagaStore } from '../../src/saga/redis.js'
import { faultyClient } from '../support/redis-client.js'

// One process of many that run the sagas of one store, until it is killed; started with the port of Redis. Effects are counted in Redis, by their key.

/** Every seventh saga fails at its third step. */
export const fails = (input: number): boolean => input % 7 === 0

/** @param effects where bodies have their effect */
export function bookings(effects: Redis) {
  const effect = async (key: string): Promise<string> => {
    await sleep(5 + Math.random() * 20)
    await effects.hincrby('effects', key, 1)
    await sleep(Math.random() * 10)
    return key
  }
  return saga<number>('booking', { version: 1 })
    .step('flight', { run: ({ key }) => effect(key), compensate: ({ key }) => effect(key) })
    .parallel('stay', {
      hotel: (b) => b.step('room', { run: ({ key }) => effect(key), compensate: ({ key }) => effect(key) }),
      car: (b) => b.step('car', { run: ({ key }) => effect(key), compensate: ({ key }) => effect(key) }),
    })
    .sleep('settle', 30)
    .step('pay', {
      run: async ({ key, input }) => {
        if (fails(input)) throw new Error('no money')
        return effect(key)
      },
    })
    .build()
}

const port = Number(process.argv[2])
if (Number.isInteger(port)) {
  const client = faultyClient(port)
  const store = new RedisSagaStore(client, { subscriber: faultyClient(port) })
  new SagaOrchestrator({ store, sagas: [bookings(client)], leaseMs: 700, concurrency: 8 }).start()
  process.on('disconnect', () => process.exit())
  process.send!('ready')
}
