import type { Redis } from 'ioredis'

/** A client that is connected, and comes back by itself from now on. @throws what is wrong when there is no Redis at `url` */
export async function connectRedis(url: string): Promise<Redis> {
  const { Redis } = await import('ioredis')
  const client = new Redis(url, { lazyConnect: true, connectTimeout: 3_000, retryStrategy: null })
  let last: unknown
  client.on('error', (error) => (last = error)) // later on each user decides what then
  try {
    await client.connect()
  } catch (error) {
    client.disconnect()
    throw last ?? error
  }
  client.options.retryStrategy = (times) => Math.min(times * 100, 2_000)
  return client
}

/** A second one like it, to listen with. */
export function listenerOf(client: Redis): Redis {
  const listener = client.duplicate({ lazyConnect: false, autoResubscribe: false }) // who listens subscribes anew
  listener.on('error', () => {}) // who listens looks as well, only less often
  return listener
}
