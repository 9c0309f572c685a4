import type { TestProject } from 'vitest/node'
import { Servers } from '../../scripts/servers.mjs'

/** Starts what integration tests need, once per run. `REDIS_URL`, `DATABASE_URL` and `RABBITMQ_URL` name servers of your own instead. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const servers = new Servers()
  const { REDIS_URL: redisUrl, DATABASE_URL: postgresUrl, RABBITMQ_URL: rabbitmqUrl } = process.env
  const [redis, postgres, rabbitmq] = await Promise.all([
    redisUrl ?? servers.redis().then(({ url }) => url),
    postgresUrl ?? servers.postgres().then(({ url }) => url),
    rabbitmqUrl ?? servers.rabbitmq().then(({ url }) => url),
  ])
  project.provide('redisUrl', redis)
  project.provide('postgresUrl', postgres)
  project.provide('rabbitmqUrl', rabbitmq)
  return () => servers.stop()
}

declare module 'vitest' {
  export interface ProvidedContext {
    /** A Redis that all test files share: use keys of your own. */
    redisUrl: string
    /** A PostgreSQL that all test files share: use a schema of your own. */
    postgresUrl: string
    /** A RabbitMQ that all test files share: use a prefix of your own. */
    rabbitmqUrl: string
  }
}
