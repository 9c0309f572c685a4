import { Cluster, Redis } from 'ioredis'
import { CircuitBreaker } from '../../src/resilience/index.js'
import { RedisCircuitBreakerStore, type RedisCircuitBreakerStoreOptions } from '../../src/resilience/redis.js'

// One process of a fleet: calls a service through its circuit all the time. It is told what to do, and tells what it sees.

/** What a worker is told. */
export type Order =
  | {
      readonly do: 'make'
      readonly name: string
      readonly openMs: number
      readonly store: RedisCircuitBreakerStoreOptions
    }
  | { readonly do: 'serve'; readonly service: 'works' | 'fails' | 'hangs' }
  | { readonly do: 'measure' }

/** What a worker tells: its state and figures after each order, and each call that hangs. */
export type News =
  | {
      readonly is: 'state'
      readonly state: string
      readonly calls: number
      readonly wrong: string[]
      readonly p99: number
    }
  | { readonly is: 'hanging' }

const ports = (process.argv[2] ?? '').split(',').map(Number)
const nodes = ports.map((port) => ({ host: '127.0.0.1', port }))
// Only the time between two tries to connect is not the default: 2 s at most would be too long to wait for in a test.
const client =
  nodes.length > 1
    ? new Cluster(nodes)
    : new Redis({ ...nodes[0]!, retryStrategy: (times) => Math.min(50 * times, 300) })
client.on('error', () => {})

let circuit: CircuitBreaker | undefined
let service: 'works' | 'fails' | 'hangs' = 'works'
let hanging: ((value: unknown) => void) | undefined
let took: number[] = []
let wrong: string[] = []

const tell = (news: News): void => void process.send?.(news)
const operation = async (): Promise<unknown> => {
  if (service === 'fails') throw new Error('service is down')
  if (service === 'works') return undefined
  tell({ is: 'hanging' })
  return new Promise((resolve) => (hanging = resolve))
}

async function call(): Promise<void> {
  if (!circuit) return
  const mode = service
  const startedAt = performance.now()
  try {
    await circuit.execute(operation)
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    if (code !== 'CIRCUIT_OPEN' && message !== 'service is down') wrong.push(`${code ?? ''} ${message}`)
  }
  if (mode === 'works') took.push(performance.now() - startedAt)
}

setInterval(() => {
  if (service !== 'works') return void call()
  void (async () => {
    for (let i = 0; i < 20; i++) await call()
  })()
}, 20)

process.on('message', (order: Order) => {
  if (order.do === 'make') {
    const { name, openMs } = order
    const window = { kind: 'consecutive', failures: 3 } as const
    circuit = new CircuitBreaker({ name, openMs, window, store: new RedisCircuitBreakerStore(client, order.store) })
  } else if (order.do === 'serve') {
    service = order.service
    if (service === 'works') hanging?.(undefined)
  } else {
    const sorted = took.toSorted((a, b) => a - b)
    const p99 = sorted[Math.floor(sorted.length * 0.99)] ?? 0
    tell({ is: 'state', state: circuit?.state ?? 'none', calls: took.length, wrong, p99 })
    took = []
    wrong = []
  }
})
process.on('disconnect', () => process.exit())
