import { Cluster, Redis } from 'ioredis'
import { createClient } from 'redis'
import { afterAll, beforeAll, inject, onTestFinished } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import { faultyClient, type FaultyClientOptions } from './redis-client.js'

/** A {@link faultyClient} that is closed at the end of the test. */
export function connect(port: number, options?: FaultyClientOptions): Redis {
  const client = faultyClient(port, options)
  onTestFinished(() => client.disconnect())
  return client
}

/**
 * A Redis of a test file's own, for one that does what every client of a server feels: forgets scripts, kills connections, watches.
 * To be called at its top. @returns its address
 */
export async function ownRedis(): Promise<string> {
  const servers = new Servers()
  afterAll(() => servers.stop())
  return (await servers.redis()).url
}

/** Clients of both kinds for a test file, at whose top it is to be called: on the Redis that all share, connected while its tests run. */
export function redisClients() {
  const redis = new Redis(inject('redisUrl'), { lazyConnect: true })
  const nodeRedis = createClient({ url: inject('redisUrl') })
  const clients = { redis, subscriber: redis.duplicate(), nodeRedis, nodeSubscriber: nodeRedis.duplicate() }
  const all = Object.values(clients)
  beforeAll(async () => void (await Promise.all(all.map((client) => client.connect()))))
  afterAll(() => {
    for (const client of all)
      if ('call' in client) client.disconnect()
      else client.destroy()
  })
  return clients
}

/** A Redis Cluster of three for a test file, at whose top it is to be called: it is there while its tests run. */
export function redisCluster() {
  const servers = new Servers()
  let ports: readonly number[]
  let cluster: Cluster
  let subscriber: Cluster
  beforeAll(async () => {
    ports = (await servers.redisCluster()).map(({ port }) => port)
    const nodes = ports.map((port) => ({ host: '127.0.0.1', port }))
    cluster = new Cluster(nodes)
    subscriber = new Cluster(nodes)
  })
  afterAll(async () => {
    cluster.disconnect()
    subscriber.disconnect()
    await servers.stop()
  })
  return {
    get ports(): readonly number[] {
      return ports
    },
    get cluster(): Cluster {
      return cluster
    },
    /** Another client, for listening. */
    get subscriber(): Cluster {
      return subscriber
    },
    /** A client for each node, in the order of `ports`, until the end of the test. */
    nodes(): Redis[] {
      return ports.map((port) => connect(port))
    },
  }
}
