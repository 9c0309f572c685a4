import { expect, test } from 'vitest'
import { fromMessage, setApart, toBody, type Past } from '../../src/messaging/rabbitmq-wire.js'

test.each(['a', '中', '\u0000', '\ud83d', '"'])(
  'a past that travels beside its message fits into the smallest frame, whatever the errors say: %j',
  (char) => {
    const message = { id: 'i', type: 'A', key: 'k', occurredAt: 1, text: '{"data":1,"headers":{}}' }
    const failure = { name: char.repeat(1_000), message: char.repeat(1_000) }
    const death = { reason: 'attempts', lastError: failure, diedAt: 1_700_000_000_000, queue: 'q'.repeat(100) } as const
    const past: Past = { attempts: 3, firstError: failure, previousMs: 200, death }
    const { body, headers } = setApart(toBody(message, past))!
    expect(body).toEqual(toBody(message))
    expect(Buffer.byteLength(String(Object.values(headers)[0]))).toBeLessThan(2_000) // 4,096, and the broker adds some
    const kept = fromMessage({ content: body, fields: {}, properties: { headers: { ...headers } } })
    expect(kept).toMatchObject({ message, past: { attempts: 3, previousMs: 200, death: { reason: 'attempts' } } })
    expect(kept.past.firstError).toEqual(kept.past.death?.lastError)
    expect(kept.past.firstError?.message.length).toBe(char === 'a' || char === '"' ? 200 : 66)
  },
)
