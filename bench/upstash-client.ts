import { createHash } from 'node:crypto'
import type { Ratelimit } from '@upstash/ratelimit'
import type { Redis } from 'ioredis'

/** What @upstash/ratelimit calls of its own client, which speaks HTTP to a service: the same over ioredis. */
export function upstashClient(client: Redis): ConstructorParameters<typeof Ratelimit>[0]['redis'] {
  /** Its scripts begin with a flag that only the service knows: without it they have another digest. */
  const digests = new Map<string, string>()
  const digest = (lua: string): string => createHash('sha1').update(lua).digest('hex')
  return {
    async evalsha(sha: string, keys: string[], args: (string | number)[]) {
      const known = digests.get(sha)
      if (known === undefined) throw new Error('NOSCRIPT')
      return client.evalsha(known, keys.length, ...keys, ...args)
    },
    async eval(lua: string, keys: string[], args: (string | number)[]) {
      const plain = lua.replace(/^#!.*\n/, '')
      digests.set(digest(lua), digest(plain))
      return client.eval(plain, keys.length, ...keys, ...args)
    },
  } as unknown as ConstructorParameters<typeof Ratelimit>[0]['redis']
}
