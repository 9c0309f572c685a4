import { mkdirSync, writeFileSync } from 'node:fs'
import type { TestProject } from 'vitest/node'
import { freePort, Servers } from '../../scripts/servers.mjs'

/** Starts what integration tests need, once per run. `REDIS_URL`, `DATABASE_URL` and `RABBITMQ_URL` name servers of your own instead. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const servers = new Servers()
  const { REDIS_URL: redisUrl, DATABASE_URL: postgresUrl, RABBITMQ_URL: rabbitmqUrl } = process.env
  // It takes seconds to start, and few tests need it: those wait for it, see rabbitmq.ts.
  project.provide('rabbitmqUrl', rabbitmqUrl ?? (await begin(servers)))
  const [redis, postgres] = await Promise.all([
    redisUrl ?? servers.redis().then(({ url }) => url),
    postgresUrl ?? servers.postgres().then(({ url }) => url),
  ])
  project.provide('redisUrl', redis)
  project.provide('postgresUrl', postgres)
  return async () => {
    if (project.vitest.state.getCountOfFailedTests() > 0) keepOutput(servers)
    await servers.stop()
  }
}

/** What the servers printed may say why tests failed; RabbitMQ's errors reach tests as a closed connection only. */
function keepOutput({ output }: Servers): void {
  mkdirSync('test/.logs', { recursive: true })
  for (const [name, text] of output) {
    const file = `test/.logs/${name}.log`
    writeFileSync(file, text)
    const last = name.startsWith('rabbitmq') ? text.trimEnd().split('\n').slice(-20) : []
    console.error([`What ${name} has printed is in ${file}`, ...last].join('\n'))
  }
}

async function begin(servers: Servers): Promise<string> {
  const port = await freePort()
  servers.rabbitmq({ port }).catch((error: unknown) => {
    if (!servers.stopped) console.error(error)
  })
  return `amqp://guest:guest@127.0.0.1:${port}`
}

declare module 'vitest' {
  export interface ProvidedContext {
    /** A Redis that all test files share: use keys of your own. */
    redisUrl: string
    /** A PostgreSQL that all test files share: use a schema of your own. */
    postgresUrl: string
    /** A RabbitMQ that all test files share, which may still be starting: see `rabbitmq.ts`. */
    rabbitmqUrl: string
  }
}
