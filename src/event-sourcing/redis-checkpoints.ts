import { checkString } from '../kernel/check.js'
import { randomId } from '../kernel/random.js'
import { checkRedisClient, defineScript, sendRedis, type RedisArg, type RedisClient } from '../kernel/redis.js'
import { hashTagged, nameOf } from '../kernel/redis-names.js'
import type { Checkpoints, Parked, SubscriptionLease } from './checkpoints.js'
import { FencedError } from './errors.js'
import { checkpointsLua } from './redis-checkpoints.lua.js'
import { DEFAULT_NAMESPACE } from './redis-namespace.js'

/** Where {@link RedisCheckpoints} are kept. */
export interface RedisCheckpointsOptions {
  /** Stands before every key; may be that of the store. @defaultValue `'holdfast:{events}:'` */
  readonly namespace?: string | undefined
}

const script = defineScript(checkpointsLua)

/**
 * Checkpoints in Redis ≥ 6.2, one server or Cluster. The server's clock counts. There is no transaction for handlers: their work may be
 * repeated after a crash, for at most a page, and is never left out. What survives a crash is what Redis is told to keep; an
 * older checkpoint after a fail-over means that events are handled once more.
 */
export class RedisCheckpoints implements Checkpoints {
  readonly #client: RedisClient
  readonly #prefix: string

  /**
   * @param client stays the caller's, who closes it
   * @throws InvalidOptionError when an argument is of the wrong kind. Nothing is sent.
   */
  constructor(client: RedisClient, { namespace = DEFAULT_NAMESPACE }: RedisCheckpointsOptions = {}) {
    this.#client = checkRedisClient(client)
    this.#prefix = hashTagged(checkString('namespace', namespace, 0))
  }

  async acquire(name: string, owner: string, ttlMs: number): Promise<SubscriptionLease | undefined> {
    // As it stands in names: never empty, which means that nobody is the owner.
    const reply = await this.#run(name, ['acquire', nameOf(owner), Math.ceil(ttlMs)])
    const [epoch, position] = reply as [number | string, string]
    return Number(epoch) === 0 ? undefined : { epoch: Number(epoch), position: positionOf(position) }
  }

  async position(name: string): Promise<number | undefined> {
    const position = await sendRedis(this.#client, 'hget', [this.#keys(name)[0], 'position'])
    return positionOf((position as string | null) ?? '')
  }

  async commit(
    name: string,
    epoch: number,
    from: number | undefined,
    to: number,
    work: (tx: undefined) => Promise<void>,
  ): Promise<void> {
    await this.#held(name, ['held', epoch, from ?? ''])
    await work(undefined)
    await this.#held(name, ['move', epoch, from ?? '', to, randomId(), '']) // asked again: the work took time
  }

  async park(name: string, epoch: number, from: number | undefined, event: Parked): Promise<void> {
    await this.#held(name, ['move', epoch, from ?? '', event.position, randomId(), JSON.stringify(event)])
  }

  async parked(name: string): Promise<readonly Parked[]> {
    const parked = (await sendRedis(this.#client, 'lrange', [this.#keys(name)[1], 0, -1])) as string[]
    return parked.map((text) => JSON.parse(text) as Parked)
  }

  async release(name: string, epoch: number): Promise<void> {
    await this.#run(name, ['release', epoch])
  }

  async #held(name: string, args: readonly RedisArg[]): Promise<void> {
    if (Number(await this.#run(name, args)) !== 1) throw new FencedError(name)
  }

  #run(name: string, args: readonly RedisArg[]): Promise<unknown> {
    return script.run(this.#client, this.#keys(name), args)
  }

  /** `c` + name, a hash; `p` + name, what was parked. */
  #keys(name: string): [checkpoint: string, parked: string] {
    return [`${this.#prefix}c${nameOf(name)}`, `${this.#prefix}p${nameOf(name)}`]
  }
}

const positionOf = (text: string): number | undefined => (text === '' ? undefined : Number(text))
