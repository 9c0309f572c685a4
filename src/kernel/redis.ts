import { createHash } from 'node:crypto'
import { checkObject, invalid } from './check.js'
import { messageOf, StoreError } from './errors.js'

/** One argument of a Redis command. */
export type RedisArg = string | number | Uint8Array

/** What we call of ioredis 5 and 6 and iovalkey, single server or Cluster. */
export interface IoRedisLike {
  /** Sends one command; rejects with what the server or the connection says. */
  call(command: string, ...args: (string | number | Buffer)[]): Promise<unknown>
}

/** What we call of node-redis 5 and 6, clients and pools (a Cluster of node-redis needs an adapter of three lines). */
export interface NodeRedisLike {
  /** Sends one command, its name first; rejects with what the server or the connection says. */
  sendCommand(args: (string | Buffer)[]): Promise<unknown>
}

/** A Redis client of the user's, already made. It is never closed by this library. */
export type RedisClient = IoRedisLike | NodeRedisLike

/**
 * @param instead for scripts that make names of keys themselves: the option of ours that is for what ioredis calls `keyPrefix`, which it
 * puts only before names that it is given
 * @throws InvalidOptionError
 */
export function checkRedisClient<C extends RedisClient>(client: C, instead?: string): C {
  const { call, sendCommand, options } = checkObject('client', client) as Partial<IoRedisLike & NodeRedisLike> & {
    readonly options?: { readonly keyPrefix?: unknown }
  }
  if (typeof call !== 'function' && typeof sendCommand !== 'function')
    invalid('client', 'a client of ioredis or node-redis', client)
  if (instead !== undefined && options?.keyPrefix)
    invalid('client', `one without keyPrefix (that is what ${instead} is for)`, options.keyPrefix)
  return client
}

/**
 * Sends one command. @throws StoreError with what the client threw as `cause`: the command may or may not have run.
 * Commands go out in lower case: ioredis then gives the same shapes of reply under RESP2 and RESP3.
 */
export async function sendRedis(client: RedisClient, command: string, args: readonly RedisArg[]): Promise<unknown> {
  try {
    return await send(client, command, args)
  } catch (error) {
    throw failed(command, error)
  }
}

/** A Lua script that runs on a server in one atomic step. */
export interface RedisScript {
  /**
   * Runs the script by its digest; sends the text when the server does not know it (that first try ran nothing).
   * @throws StoreError with what the client threw as `cause`: the script may or may not have run.
   */
  run(client: RedisClient, keys: readonly string[], args: readonly RedisArg[]): Promise<unknown>
}

/** By client, while texts are under way to the server: how many, and the calls that wait for the last answer. */
const learning = new WeakMap<RedisClient, { texts: number; readonly waiting: (() => void)[] }>()

/** @param lua the text. It should return integers, strings and arrays only: these look the same in every client. */
export function defineScript(lua: string): RedisScript {
  const digest = createHash('sha1').update(lua).digest('hex')
  return {
    async run(client, keys, args) {
      // It would overtake those that were refused before it and have not been sent again yet.
      const busy = learning.get(client)
      if (busy) await new Promise<void>((go) => busy.waiting.push(go))
      try {
        return await send(client, 'evalsha', [digest, keys.length, ...keys, ...args])
      } catch (error) {
        // The class differs between clients; the first word of the message is the server's own.
        if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw failed('evalsha', error)
      }
      const now = learning.get(client) ?? { texts: 0, waiting: [] }
      learning.set(client, now)
      now.texts++
      try {
        return await sendRedis(client, 'eval', [lua, keys.length, ...keys, ...args])
      } finally {
        if (--now.texts === 0) {
          learning.delete(client)
          for (const go of now.waiting) go()
        }
      }
    },
  }
}

function send(client: RedisClient, command: string, args: readonly RedisArg[]): Promise<unknown> {
  const plain = args.map((arg) => (arg instanceof Uint8Array && !Buffer.isBuffer(arg) ? Buffer.from(arg) : arg))
  // ioredis also has a `sendCommand`, of another kind: ask for `call` first.
  if ('call' in client) return client.call(command, ...plain)
  return client.sendCommand([command, ...plain.map((arg) => (typeof arg === 'number' ? String(arg) : arg))])
}

const failed = (command: string, cause: unknown): StoreError =>
  new StoreError(`Redis: ${command} failed: ${messageOf(cause)}`, { cause })
