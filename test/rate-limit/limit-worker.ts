import { Cluster, Redis } from 'ioredis'
import { RateLimiter, type Limit } from '../../src/rate-limit/index.js'
import { RedisTokenBucketStore, type LeaseOptions } from '../../src/rate-limit/redis.js'

// One of many processes under one limit: makes its calls as fast as they are answered, a few at once, and tells how many passed.

/** What a worker is told, first of all. */
export interface Job {
  readonly ports: readonly number[]
  readonly prefix: string
  readonly lease: LeaseOptions | undefined
  readonly limit: Limit
  readonly keys: readonly string[]
  readonly calls: number
}

/** What a worker tells at the end. */
export interface Outcome {
  readonly allowed: Readonly<Record<string, number>>
  /** Calls that the store did not answer: they count as refused. */
  readonly failed: number
}

const AT_ONCE = 10
const PAUSE_MS = 30

function connect(ports: readonly number[]): Redis | Cluster {
  const nodes = ports.map((port) => ({ host: '127.0.0.1', port }))
  // Default clients; only the time between two tries to connect is shorter, because a test waits for it.
  const client =
    nodes.length > 1
      ? new Cluster(nodes)
      : new Redis({ ...nodes[0]!, retryStrategy: (times) => Math.min(50 * times, 200) })
  client.on('error', () => {})
  return client
}

let client: Redis | Cluster | undefined

async function run({ ports, prefix, lease, limit, keys, calls }: Job): Promise<void> {
  client = connect(ports)
  // The client may be replaced, as behind an address that moves to another server.
  const moving = { call: (command: string, ...args: (string | number | Buffer)[]) => client!.call(command, ...args) }
  const store = new RedisTokenBucketStore(ports.length > 1 ? client : moving, { prefix, lease })
  const limiter = new RateLimiter({ limits: limit, store, onStoreFailure: 'deny', storeTimeoutMs: 5_000 })
  const allowed = Object.fromEntries(keys.map((key) => [key, 0]))
  let failed = 0
  for (let made = 0; made < calls; made += AT_ONCE) {
    await Promise.all(
      Array.from({ length: AT_ONCE }, async (_, i) => {
        const key = keys[(made + i) % keys.length]!
        const decision = await limiter.consume(key)
        if (decision.storeFailed) failed++
        else if (decision.allowed) allowed[key]!++
      }),
    )
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
  process.send?.({ allowed, failed } satisfies Outcome, () => process.exit())
}

process.on('message', (message: Job | { readonly moveTo: number }) => {
  if ('moveTo' in message) {
    client?.disconnect()
    client = connect([message.moveTo])
  } else void run(message)
})
process.on('disconnect', () => process.exit())
process.send?.('ready')
