import type { Redis } from 'ioredis'
import type { Inbox } from '../../src/messaging/index.js'
import { RedisEventBus } from '../../src/messaging/redis.js'
import { faultyClient } from '../support/redis-client.js'

// One process that consumes until it is killed.

/** What a worker is told. */
export interface Job {
  /** Where the bus is: a proxy, or the server. */
  readonly port: number
  /** Where it writes down what it does: the server itself. */
  readonly notes: number
  readonly namespace: string
  readonly leaseMs: number
  /** How long a handler takes. */
  readonly handleMs: number
  readonly concurrency: number
  /** Where its inbox and the effects are; none: what handlers do is noted. */
  readonly inbox?: string | undefined
}

/** What the handlers are given. */
export interface Work {
  readonly n: number
  readonly poison: boolean
}

/** As simple as an inbox can be: that a message was handled, and its effects, are written in one step. */
export const inboxOf = (redis: Redis, prefix: string): Inbox<string[]> => ({
  async once(_group, id, work) {
    const effects: string[] = []
    await work(effects)
    const lua = `
      if redis.call('SADD', KEYS[1], ARGV[1]) == 0 then return 0 end
      for i = 2, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
      return 1`
    return (await redis.eval(lua, 2, `${prefix}handled`, `${prefix}effects`, id, ...effects)) === 1
  },
})

async function run({ port, notes, namespace, leaseMs, handleMs, concurrency, inbox }: Job): Promise<void> {
  const options = { retryStrategy: () => 20, maxRetriesPerRequest: null }
  const [client, subscriber] = [faultyClient(port, options), faultyClient(port, options)]
  const note = faultyClient(notes)
  const bus = new RedisEventBus<{ work: Work }>(client, { namespace, subscriber, leaseMs })
  const retry = { attempts: 3, backoff: () => 30 }
  const common = { group: 'g', types: ['work'], concurrency, retry } as const
  if (inbox !== undefined) {
    await bus.subscribe({
      ...common,
      inbox: inboxOf(note, inbox),
      handle: ({ data: { n, poison }, key }, { tx }) => {
        if (poison) throw new Error('poison')
        tx.push(`${key} ${n}`)
      },
    })
  } else {
    await bus.subscribe({
      ...common,
      handle: async ({ data: { n } }, { attempt }) => {
        await note.rpush('begun', `${n} ${attempt} ${process.pid}`)
        await new Promise((resolve) => setTimeout(resolve, handleMs))
        await note.rpush('ended', `${n} ${attempt} ${process.pid}`)
      },
    })
  }
  process.send?.('ready')
}

process.once('message', (job) => void run(job as Job))
