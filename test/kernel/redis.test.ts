import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { checkRedisClient, defineScript, sendRedis, type RedisClient } from '../../src/kernel/redis.js'

type Sent = [string, ...unknown[]]

/** A client of either kind that records what is sent and answers in turn. */
function clients(...answers: (() => unknown)[]): { kind: string; client: RedisClient; sent: Sent[] }[] {
  return ['ioredis', 'node-redis'].map((kind) => {
    const sent: Sent[] = []
    const left = [...answers]
    const answer = async (): Promise<unknown> => left.shift()?.()
    const client: RedisClient =
      kind === 'ioredis'
        ? { call: (command, ...args) => (sent.push([command, ...args]), answer()) }
        : { sendCommand: (args) => (sent.push(args as unknown as Sent), answer()) }
    return { kind, client, sent }
  })
}

const fails = (message: string) => () => {
  throw new Error(message)
}
const lua = 'return 1'
const digest = createHash('sha1').update(lua).digest('hex')

test('what is no client is refused', () => {
  for (const { client } of clients()) expect(checkRedisClient(client)).toBe(client)
  for (const wrong of [{}, null, 'redis://', { call: 1 }])
    expect(() => checkRedisClient(wrong as never)).toThrow(/^client: expected/)
})

describe('sendRedis', () => {
  test('sends the command and gives back the answer', async () => {
    for (const { client, sent, kind } of clients(() => 'v')) {
      expect(await sendRedis(client, 'set', ['k', 'v', 'px', 5])).toBe('v')
      expect(sent).toEqual([['set', 'k', 'v', 'px', kind === 'ioredis' ? 5 : '5']])
    }
  })

  test('sends bytes as they are, whatever kind of array holds them', async () => {
    for (const { client, sent } of clients()) {
      await sendRedis(client, 'set', ['k', new Uint8Array([0, 255]), Buffer.from([1])])
      expect(sent[0]!.slice(2)).toEqual([Buffer.from([0, 255]), Buffer.from([1])])
      expect(sent[0]!.slice(2).every((arg) => Buffer.isBuffer(arg))).toBe(true)
    }
  })

  test('what the client throws or rejects with comes out as StoreError with its cause', async () => {
    for (const { client } of clients(fails('READONLY no'), () => Promise.reject(new Error('READONLY no')))) {
      for (let i = 0; i < 2; i++)
        await expect(sendRedis(client, 'set', ['k', 'v'])).rejects.toMatchObject({
          code: 'STORE_FAILED',
          message: 'Redis: set failed: READONLY no',
          cause: { message: 'READONLY no' },
        })
    }
    const throwing = { call: fails('closed') } as unknown as RedisClient
    await expect(sendRedis(throwing, 'get', ['k'])).rejects.toMatchObject({ code: 'STORE_FAILED' })
  })

  test('a client with both call and sendCommand, as ioredis has, is called by call', async () => {
    const client = { call: async () => 'call', sendCommand: async () => 'sendCommand' } as unknown as RedisClient
    expect(await sendRedis(client, 'ping', [])).toBe('call')
  })
})

describe('defineScript', () => {
  test('runs by digest', async () => {
    for (const { client, sent } of clients(() => [1])) {
      expect(await defineScript(lua).run(client, ['k1', 'k2'], ['a'])).toEqual([1])
      expect(sent.map((s) => s.map(String))).toEqual([['evalsha', digest, '2', 'k1', 'k2', 'a']])
    }
  })

  test('sends the text when the server does not know the digest, and then the digest again', async () => {
    const script = defineScript(lua)
    for (const { client, sent } of clients(
      fails('NOSCRIPT No matching script.'),
      () => 1,
      () => 2,
    )) {
      expect(await script.run(client, ['k'], [])).toBe(1)
      expect(await script.run(client, ['k'], [])).toBe(2)
      expect(sent.map((s) => s.map(String))).toEqual([
        ['evalsha', digest, '1', 'k'],
        ['eval', lua, '1', 'k'],
        ['evalsha', digest, '1', 'k'],
      ])
    }
  })

  test('calls of one client keep their order while the server learns the text', async () => {
    const script = defineScript(lua)
    const ran: unknown[] = []
    const replies: (() => void)[] = []
    let known = false
    const client: RedisClient = {
      call: (command, ...args) => {
        const knew = known || command === 'eval' // the server gets commands in order, and answers later
        if (knew) ran.push(args.at(-1))
        known = knew
        return new Promise((resolve, reject) => {
          replies.push(knew ? () => resolve(1) : () => reject(new Error('NOSCRIPT')))
        })
      },
    }
    const reply = async (): Promise<void> => {
      replies.shift()?.()
      for (let i = 0; i < 20; i++) await Promise.resolve()
    }
    const calls = [script.run(client, [], [1]), script.run(client, [], [2])]
    await reply()
    calls.push(script.run(client, [], [3]))
    await reply()
    calls.push(script.run(client, [], [4]))
    while (replies.length > 0) await reply()
    await Promise.all(calls)
    expect(ran).toEqual([1, 2, 3, 4])
  })

  test('is sent once for any other error, which may have come after it ran', async () => {
    for (const message of ['ERR user_script: NOSCRIPT', 'Connection is closed.', 'OOM']) {
      for (const { client, sent } of clients(fails(message), () => 1)) {
        await expect(defineScript(lua).run(client, ['k'], [])).rejects.toMatchObject({
          code: 'STORE_FAILED',
          cause: { message },
        })
        expect(sent).toHaveLength(1)
      }
    }
  })

  test('an error of the text comes out as StoreError too', async () => {
    for (const { client } of clients(fails('NOSCRIPT'), fails('ERR compile')))
      await expect(defineScript(lua).run(client, [], [])).rejects.toMatchObject({ message: /eval failed: ERR compile/ })
  })
})
