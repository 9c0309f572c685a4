import { Redis, type RedisOptions } from 'ioredis'

export type FaultyClientOptions = Pick<RedisOptions, 'autoResubscribe' | 'maxRetriesPerRequest' | 'retryStrategy'>

/**
 * A client of a server that is cut off or killed, and comes back soon. What it reports meanwhile is no news. It does not renew
 * subscriptions by itself, because ioredis up to 6.0.0 leaves it unheard when that fails: the library does.
 */
export function faultyClient(port: number, options: FaultyClientOptions = {}): Redis {
  const retryStrategy = (times: number): number => Math.min(20 * times, 200)
  const client = new Redis(port, { retryStrategy, autoResubscribe: false, ...options })
  client.on('error', () => {})
  return client
}
