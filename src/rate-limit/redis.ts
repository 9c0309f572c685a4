import { checkString } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { StoreError } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import { checkRedisClient, defineScript, type RedisArg, type RedisClient } from '../kernel/redis.js'
import { meterOf, stateOf, type Meter } from './gcra.js'
import { LeasingStore, type LeaseOptions } from './lease.js'
import type { Limit } from './limit.js'
import { placeOf, slotOf, suffixOf } from './redis-keys.js'
import { tokenBucketLua } from './redis.lua.js'
import type { BucketState, Taken, TokenBucketStore } from './store.js'

export type { LeaseOptions }
export type { RedisClient }

/** How a {@link RedisTokenBucketStore} names its keys. */
export interface RedisTokenBucketStoreOptions {
  /** Stands before every key. @defaultValue `'holdfast:rate:'` */
  readonly prefix?: string | undefined
  /**
   * Takes tokens in blocks and decides here as long as they last: most calls are then answered at once, without the server. What
   * is still held when the process dies is lost; `close()` gives it back. @defaultValue every call asks the server
   */
  readonly lease?: LeaseOptions | undefined
  /** For the age of leases; buckets go by the server's clock. @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

const script = defineScript(tokenBucketLua)

/** Buckets in one script call: longer ones would hold up the server's other clients. */
const MAX_BUCKETS = 1_000

/** Calls without an answer, above which new ones fail at once: a client that is cut off keeps what it can't send. */
const MAX_UNANSWERED = 10_000

interface Call {
  readonly op: 'take' | 'adjust' | 'reset'
  readonly tokens: number
  readonly place: string
  readonly limits: Prepared
  readonly resolve: (taken: Taken | undefined) => void
  readonly reject: (error: unknown) => void
}

/** A list of limits as the script wants it. */
interface Prepared {
  readonly meters: readonly Meter[]
  readonly suffixes: readonly string[]
  readonly args: readonly RedisArg[]
}

/**
 * Buckets in Redis ≥ 6.2, one server or Cluster, shared by all who use this server and prefix. Time is the server's. All
 * calls of one turn of the event loop go in one script call (on a Cluster, one per slot), which is one atomic step; the first
 * after a silence does not wait for the turn to end. A key lives until its bucket is full. A call that the client sends again because the connection broke is recognized for a second
 * and not counted twice.
 */
export class RedisTokenBucketStore implements TokenBucketStore {
  readonly #client: RedisClient
  readonly #prefix: string
  readonly #isCluster: boolean
  readonly #prepared = new WeakMap<readonly Limit[], Prepared>()
  readonly #id = randomId()
  #runs = 0
  #unanswered = 0
  #queue: Call[] = []
  readonly #leasing: LeasingStore | undefined

  /**
   * @param client stays the caller's, who closes it. Where `client.isCluster` is true, as in ioredis, keys are sent slot by slot.
   * @throws InvalidOptionError when an argument is of the wrong kind. Nothing is sent.
   */
  constructor(
    client: RedisClient,
    { prefix = 'holdfast:rate:', lease, clock = systemClock }: RedisTokenBucketStoreOptions = {},
  ) {
    this.#client = checkRedisClient(client)
    this.#prefix = checkString('prefix', prefix, 0)
    this.#isCluster = (client as { isCluster?: unknown }).isCluster === true
    if (lease !== undefined) this.#leasing = new LeasingStore(this.#server, lease, clock)
  }

  take(key: string, cost: number, limits: readonly Limit[]): Taken | Promise<Taken> {
    return (this.#leasing ?? this.#server).take(key, cost, limits)
  }

  async adjust(key: string, tokens: number, limits: readonly Limit[]): Promise<void> {
    await (this.#leasing ?? this.#server).adjust(key, tokens, limits)
  }

  async reset(key: string, limits: readonly Limit[]): Promise<void> {
    await (this.#leasing ?? this.#server).reset(key, limits)
  }

  /**
   * Gives leased tokens back. The store can be used on, without leases; without any there is nothing to do.
   * @throws StoreError when the server can't be reached, or has not answered within `lease.ttlMs`: they are back, or lost.
   */
  async close(): Promise<void> {
    await this.#leasing?.close()
  }

  /** {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** The buckets themselves. */
  readonly #server: TokenBucketStore = {
    take: (key, cost, limits) => this.#send('take', key, cost, limits) as Promise<Taken>,
    adjust: async (key, tokens, limits) => void (await this.#send('adjust', key, tokens, limits)),
    reset: async (key, limits) => void (await this.#send('reset', key, 0, limits)),
  }

  #send(op: Call['op'], key: string, tokens: number, limits: readonly Limit[]): Promise<Taken | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#unanswered >= MAX_UNANSWERED)
        return reject(new StoreError(`Redis has left ${MAX_UNANSWERED} calls unanswered: this one was not sent`))
      // With none under way, as soon as the running code has asked all it wants; behind others there is time to gather more.
      const isFirst = this.#unanswered++ === 0
      const call = { op, tokens, place: placeOf(this.#prefix, key), limits: this.#prepare(limits), resolve, reject }
      if (this.#queue.push(call) > 1) return
      if (isFirst) process.nextTick(() => this.#flush())
      else setImmediate(() => this.#flush())
    })
  }

  #prepare(limits: readonly Limit[]): Prepared {
    let prepared = this.#prepared.get(limits)
    if (!prepared) {
      const meters = limits.map((limit) => meterOf(limit))
      const args = meters.flatMap(({ ticksPerToken, ticksPerMicro, size }) => [ticksPerToken, ticksPerMicro, size])
      prepared = { meters, suffixes: limits.map(suffixOf), args }
      this.#prepared.set(limits, prepared)
    }
    return prepared
  }

  #flush(): void {
    const calls = this.#queue
    this.#queue = []
    for (const together of this.#isCluster ? bySlot(calls) : [calls]) {
      let from = 0
      let buckets = 0
      for (const [i, { limits }] of together.entries()) {
        buckets += limits.meters.length
        if (buckets <= MAX_BUCKETS || i === from) continue
        void this.#run(together.slice(from, i))
        from = i
        buckets = limits.meters.length
      }
      void this.#run(together.slice(from))
    }
  }

  async #run(calls: readonly Call[]): Promise<void> {
    const keys = [`${calls[0]!.place}!${this.#id}:${this.#runs++}`] // a rate never begins with !
    for (const { place, limits } of calls) for (const suffix of limits.suffixes) keys.push(place + suffix)
    try {
      const answer = (await script.run(this.#client, keys, argsOf(calls))) as readonly unknown[]
      const reply = answer.map(Number) // some clients are told to give strings
      let at = 0
      for (const { op, tokens, limits, resolve } of calls) {
        if (op !== 'take') {
          resolve(undefined)
          continue
        }
        const allowed = reply[at]! >= 0
        const buckets = limits.meters.map((meter, i): BucketState => {
          const backlog = reply[at++]!
          return stateOf(i === 0 && !allowed ? -1 - backlog : backlog, tokens, meter)
        })
        resolve({ allowed, buckets })
      }
    } catch (error) {
      for (const { reject } of calls) reject(error)
    } finally {
      this.#unanswered -= calls.length
    }
  }
}

/** Neighbours that ask the same of different keys share one description. */
function argsOf(calls: readonly Call[]): RedisArg[] {
  const args: RedisArg[] = []
  for (let i = 0; i < calls.length;) {
    const { op, tokens, limits } = calls[i]!
    let end = i + 1
    while (
      end < calls.length &&
      calls[end]!.op === op &&
      calls[end]!.tokens === tokens &&
      calls[end]!.limits === limits
    )
      end++
    args.push(op, tokens, end - i, limits.meters.length, ...limits.args)
    i = end
  }
  return args
}

function bySlot(calls: readonly Call[]): Iterable<Call[]> {
  const slots = new Map<number, Call[]>()
  for (const call of calls) {
    const slot = slotOf(call.place)
    const others = slots.get(slot)
    if (others) others.push(call)
    else slots.set(slot, [call])
  }
  return slots.values()
}
