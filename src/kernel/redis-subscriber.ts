/** What we call of a subscribing client of ioredis 5 and 6 or iovalkey, single server or Cluster. */
export interface IoRedisSubscriber {
  /** Tells it from node-redis, which has no such method. */
  call: unknown
  /** Resolves when the server has heard of it. */
  subscribe(channel: string): Promise<unknown>
  /** Ends a subscription. */
  unsubscribe(channel: string): Promise<unknown>
  /** Calls `listener` for each message of any channel. */
  on(event: 'message', listener: (channel: string, message: string) => void): unknown
  /** Calls `listener` each time it has connected. */
  on(event: 'ready', listener: () => void): unknown
  /** Calls `listener` each time its connection has ended. */
  on(event: 'close', listener: () => void): unknown
  /** Ends that. */
  off(event: 'message', listener: (channel: string, message: string) => void): unknown
  /** Ends that. */
  off(event: 'ready', listener: () => void): unknown
  /** Ends that. */
  off(event: 'close', listener: () => void): unknown
}

/** What we call of a subscribing client of node-redis 5 and 6. */
export interface NodeRedisSubscriber {
  /** Calls `listener` for each message of `channel`. */
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>
  /** Ends that. */
  unsubscribe(channel: string, listener: (message: string) => void): Promise<unknown>
}

/**
 * A client of the user's that does nothing but listen, such as `redis.duplicate({ autoResubscribe: false })`. It is never closed
 * by this library, which subscribes anew each time the client has connected: ioredis would too, but up to 6.0.0 leaves it unheard
 * when that fails, which ends a process.
 */
export type RedisSubscriber = IoRedisSubscriber | NodeRedisSubscriber

/** Listening to one channel, from {@link listen} on. */
export interface Listening {
  /** Rejects when the client can't subscribe; then nothing is left of it. */
  readonly begun: Promise<void>
  /** Ends it. Rejects when the client can't be told. */
  readonly end: () => Promise<unknown>
}

/** Calls `hear` for each message of `channel`, and of no other. */
export function listen(subscriber: RedisSubscriber, channel: string, hear: (message: string) => void): Listening {
  if (!('call' in subscriber)) {
    const end = (): Promise<unknown> => subscriber.unsubscribe(channel, hear)
    return { begun: orEnd(subscriber.subscribe(channel, hear), end), end }
  }
  const forget = earsOf(subscriber).add(channel, hear)
  let hasEnded = false
  const end = async (): Promise<unknown> => {
    hasEnded = true
    return forget() ? subscriber.unsubscribe(channel) : undefined
  }
  const begin = (): Promise<unknown> => (hasEnded ? Promise.resolve() : subscriber.subscribe(channel))
  return { begun: orEnd(isAlmostReady(subscriber) ? readyOrClosed(subscriber).then(begin) : begin(), end), end }
}

/** Connected, and asking for INFO: ioredis 5 sends a SUBSCRIBE even so, and then that question fails, and with it the connection. */
const isAlmostReady = (subscriber: IoRedisSubscriber): boolean =>
  (subscriber as { readonly status?: unknown }).status === 'connect'

function readyOrClosed(subscriber: IoRedisSubscriber): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      subscriber.off('ready', end)
      subscriber.off('close', end)
      resolve()
    }
    subscriber.on('ready', end)
    subscriber.on('close', end)
  })
}

interface Ear {
  readonly hear: (message: string) => void
}

/** All that listen through one client of ioredis: under one listener of each kind, for Node warns of more than ten. */
class Ears {
  readonly #channels = new Map<string, Set<Ear>>()

  constructor(private readonly subscriber: IoRedisSubscriber) {}

  /** @returns forgets it again; whether nobody listens to its channel any more */
  add(channel: string, hear: (message: string) => void): () => boolean {
    if (this.#channels.size === 0) {
      this.subscriber.on('message', this.#hear)
      this.subscriber.on('ready', this.#renew)
    }
    const ears = this.#channels.get(channel) ?? new Set<Ear>()
    const one = { hear }
    this.#channels.set(channel, ears.add(one))
    return () => {
      if (!ears.delete(one) || ears.size > 0) return false
      this.#channels.delete(channel)
      if (this.#channels.size > 0) return true
      this.subscriber.off('message', this.#hear)
      this.subscriber.off('ready', this.#renew)
      return true
    }
  }

  readonly #hear = (channel: string, message: string): void => {
    for (const { hear } of [...(this.#channels.get(channel) ?? [])]) hear(message)
  }

  /** Not left to ioredis, which forgets a channel when a connection ends while it subscribes anew. The server takes it twice as once. */
  readonly #renew = (): void => {
    for (const channel of this.#channels.keys()) this.subscriber.subscribe(channel).catch(() => {}) // connects again, or is closed
  }
}

const earsBySubscriber = new WeakMap<IoRedisSubscriber, Ears>()

function earsOf(subscriber: IoRedisSubscriber): Ears {
  const ears = earsBySubscriber.get(subscriber) ?? new Ears(subscriber)
  earsBySubscriber.set(subscriber, ears)
  return ears
}

async function orEnd(subscribed: Promise<unknown>, end: () => Promise<unknown>): Promise<void> {
  try {
    await subscribed
  } catch (error) {
    void end().catch(() => {})
    throw error
  }
}
