import { checkObject, checkString } from '../kernel/check.js'
import type { CacheBackplane, OnInvalidation } from './backplane.js'
import { DEFAULT_PREFIX, hashTagged } from './redis-names.js'
import type { Invalidation } from './store.js'

/** What we call of a subscribing client of ioredis 5 and 6 or iovalkey, single server or Cluster. */
export interface IoRedisSubscriber {
  /** Tells it from node-redis, which has no such method. */
  call: unknown
  /** Resolves when the server has heard of it; the client subscribes anew after each loss of its connection. */
  subscribe(channel: string): Promise<unknown>
  /** Ends a subscription. */
  unsubscribe(channel: string): Promise<unknown>
  /** Calls `listener` for each message of any channel. */
  on(event: 'message', listener: (channel: string, message: string) => void): unknown
  /** Ends that. */
  off(event: 'message', listener: (channel: string, message: string) => void): unknown
}

/** What we call of a subscribing client of node-redis 5 and 6. */
export interface NodeRedisSubscriber {
  /** Calls `listener` for each message of `channel`. */
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>
  /** Ends that. */
  unsubscribe(channel: string, listener: (message: string) => void): Promise<unknown>
}

/** A client of the user's that does nothing but listen, such as `redis.duplicate()`. It is never closed by this library. */
export type RedisSubscriber = IoRedisSubscriber | NodeRedisSubscriber

/** Which changes a {@link RedisCacheBackplane} hears of. */
export interface RedisCacheBackplaneOptions {
  /** That of the store. @defaultValue `'holdfast:{cache}:'` */
  readonly prefix?: string | undefined
}

/**
 * Tells managers at once what others have changed in a `RedisCacheStore` of the same prefix, whose scripts publish each change
 * themselves. Messages that are lost while the connection is down are found out by their numbers.
 */
export class RedisCacheBackplane implements CacheBackplane {
  readonly #subscriber: RedisSubscriber
  readonly #channel: string
  readonly #heard = new Set<OnInvalidation>()
  #subscribed: Promise<void> | undefined
  #end: () => Promise<unknown> = async () => {}

  /**
   * @param subscriber a client of its own, because one that listens can do nothing else; stays the caller's, who closes it
   * @throws InvalidOptionError when an argument is of the wrong kind. Nothing is sent.
   */
  constructor(subscriber: RedisSubscriber, { prefix = DEFAULT_PREFIX }: RedisCacheBackplaneOptions = {}) {
    this.#subscriber = checkObject('subscriber', subscriber)
    this.#channel = `${hashTagged(checkString('prefix', prefix, 0))}changes`
  }

  /** Does nothing: the store's scripts have told everybody. */
  async publish(): Promise<void> {}

  async subscribe(onMessage: OnInvalidation): Promise<void> {
    this.#heard.add(onMessage)
    await (this.#subscribed ??= this.#subscribe())
  }

  /** Ends all subscriptions. Rejects when the client can't be told. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#heard.clear()
    this.#subscribed = undefined
    await this.#end()
  }

  /** Once for all who listen. */
  async #subscribe(): Promise<void> {
    const subscriber = this.#subscriber
    const channel = this.#channel
    const hear = (message: string): void => {
      for (const onMessage of this.#heard) tell(message, onMessage)
    }
    try {
      if ('call' in subscriber) {
        const ofChannel = (from: string, message: string): void => {
          if (from === channel) hear(message)
        }
        this.#end = async () => {
          subscriber.off('message', ofChannel)
          await subscriber.unsubscribe(channel)
        }
        subscriber.on('message', ofChannel)
        await subscriber.subscribe(channel)
      } else {
        this.#end = () => subscriber.unsubscribe(channel, hear)
        await subscriber.subscribe(channel, hear)
      }
    } catch (error) {
      this.#subscribed = undefined // the next who asks tries again
      void this.#end().catch(() => {})
      throw error
    }
  }
}

/** `epoch seq`, then for each change, up to this number, a line of `{"origin":…,"what":…}`; anything else is not ours. */
function tell(message: string, onMessage: OnInvalidation): void {
  const [head = '', ...changes] = message.split('\n')
  const [, epoch, last] = HEAD.exec(head) ?? []
  const first = Number(last) - changes.length + 1
  for (const [i, change] of changes.entries()) {
    let body: { readonly origin: string; readonly what: Invalidation } | null
    try {
      body = JSON.parse(change) as typeof body
    } catch {
      continue
    }
    if (epoch !== undefined && body) onMessage(first + i, body.what, body.origin, epoch)
  }
}

const HEAD = /^(\S+) (\d+)$/
