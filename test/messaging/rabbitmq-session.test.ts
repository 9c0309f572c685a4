import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import type { AmqpConfirmChannel, AmqpConnection } from '../../src/messaging/rabbitmq-client.js'
import { Session } from '../../src/messaging/rabbitmq-session.js'
import { ManualClock } from '../../src/testing/index.js'

type Answer = (error: unknown) => void

/** A connection that answers when it is told to. */
async function openSession() {
  const sent: { body: Buffer; answer: Answer }[] = []
  const connection = new EventEmitter()
  const open = (): Promise<AmqpConfirmChannel> => {
    const publish = (_: string, __: string, body: Buffer, ___: object, answer: Answer) => sent.push({ body, answer })
    return Promise.resolve(Object.assign(new EventEmitter(), { publish }) as unknown as AmqpConfirmChannel)
  }
  const clock = new ManualClock()
  const fake = Object.assign(connection, { createConfirmChannel: open, close: () => Promise.resolve() })
  const session = new Session(fake as unknown as AmqpConnection, { clock, timeoutMs: 1_000 }, () => {})
  await session.open()
  const publish = (body: Buffer) => session.publish([{ exchange: '', routingKey: 'q', body }])
  return { sent, connection, clock, publish }
}

test('while the broker blocks publishers nothing is sent, so much waits and no more, and what waits too long is told why and let go', async () => {
  const { sent, connection, clock, publish } = await openSession()
  connection.emit('blocked', 'low on memory')
  const large = Buffer.alloc(40_000_000)
  const waiting = [publish(large), publish(large)]
  const late = waiting.map((one) =>
    expect(one).rejects.toThrow('no confirm in 1000 ms: the broker blocks publishers: low'),
  )
  await expect(publish(large)).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await expect(publish(large)).rejects.toThrow('too much waits to be sent already: the broker blocks publishers: low')
  await clock.advance(1_000)
  await Promise.all(late)
  const next = [publish(large), publish(Buffer.from('last'))]
  expect(sent).toHaveLength(0)
  connection.emit('unblocked')
  expect(sent.map(({ body }) => body.length)).toEqual([40_000_000, 4])
  for (const { answer } of sent) answer(null)
  expect(await Promise.all(next)).toEqual([['stored'], ['stored']])
})

test('what is not answered for is limited too: more waits until the broker has answered', async () => {
  const { sent, clock, publish } = await openSession()
  const large = Buffer.alloc(60_000_000)
  const all = [publish(large), publish(large), publish(large)]
  expect(sent).toHaveLength(2)
  sent[0]?.answer(null)
  expect(await all[0]).toEqual(['stored'])
  expect(sent).toHaveLength(3)
  const late = expect(all[1]).rejects.toThrow('no confirm')
  sent[2]?.answer(null)
  expect(await all[2]).toEqual(['stored'])
  await clock.advance(1_000)
  await late
})
