import { checkObject, checkString } from '../kernel/check.js'
import { hashTagged } from '../kernel/redis-names.js'
import { listen, type RedisSubscriber } from '../kernel/redis-subscriber.js'
import type { CacheBackplane, OnInvalidation } from './backplane.js'
import { DEFAULT_PREFIX } from './redis-names.js'
import type { Invalidation } from './store.js'

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
    const { begun, end } = listen(this.#subscriber, this.#channel, (message) => {
      for (const onMessage of this.#heard) tell(message, onMessage)
    })
    this.#end = end
    try {
      await begun
    } catch (error) {
      this.#subscribed = undefined // the next who asks tries again
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
