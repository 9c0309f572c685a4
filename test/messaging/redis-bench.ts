import { fork, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { onTestFinished } from 'vitest'
import type { Servers } from '../../scripts/servers.mjs'
import type { Message } from '../../src/messaging/index.js'
import { RedisEventBus, type RedisEventBusOptions } from '../../src/messaging/redis.js'
import { connect } from '../support/redis.js'
import type { Job } from './redis-worker.js'

/** What a test has to itself. */
export interface Bench {
  readonly port: number
  readonly pid: number
  readonly namespace: string
  readonly redis: Redis
  /** @param at port of a proxy before the server; or a client, and none that listens */
  bus(options?: RedisEventBusOptions, at?: number | Redis): RedisEventBus
  /** @param worker the bundle of `redis-worker.ts` */
  worker(worker: string, options?: Partial<Job>): Promise<ChildProcess>
  key(kind: string): string
}

const patient = { retryStrategy: () => 20, maxRetriesPerRequest: null }

/** A server of the test's own, and buses and processes on it, until its end. */
export async function open(servers: Servers, settings: Record<string, string> = {}): Promise<Bench> {
  const { port, pid } = await servers.redis(settings)
  const namespace = `{${randomUUID()}}`
  return {
    port,
    pid,
    namespace,
    redis: connect(port, patient),
    key: (kind) => `${namespace}${kind}`,
    bus: (options = {}, at = port) => {
      const client = typeof at === 'number' ? connect(at, patient) : at
      const subscriber = typeof at === 'number' ? connect(at, patient) : undefined
      const bus = new RedisEventBus(client, { namespace, subscriber, ...options })
      onTestFinished(() => bus.close())
      return bus
    },
    worker: async (worker, options = {}) => {
      const child = fork(worker)
      onTestFinished(() => void child.kill('SIGKILL'))
      const job = { port, notes: port, namespace, leaseMs: 400, handleMs: 0, concurrency: 10, ...options }
      child.send(job satisfies Job)
      await new Promise((resolve) => child.once('message', resolve))
      return child
    },
  }
}

export const work = (n: number, key?: string) => ({
  type: 'work',
  data: { n, poison: false },
  ...(key ? { key } : {}),
})
export const numbers = (messages: readonly Message[]): number[] => messages.map(({ data }) => (data as { n: number }).n)
