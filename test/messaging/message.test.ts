import { expect, test } from 'vitest'
import { causedBy, MemoryEventBus, type Message } from '../../src/messaging/index.js'

const message = (headers: Message['headers']): Message => ({
  id: 'm-1',
  type: 'A',
  data: 1,
  headers,
  occurredAt: new Date(0),
})

test('what a message causes belongs to its conversation and its trace, and names it as the cause', () => {
  const headers = {
    traceparent: '00-a-b-01',
    tracestate: 'x=y',
    correlationId: 'talk',
    causationId: 'm-0',
    'x-own': '1',
  }
  expect(causedBy(message(headers))).toEqual({
    traceparent: '00-a-b-01',
    tracestate: 'x=y',
    correlationId: 'talk',
    causationId: 'm-1',
  })
})

test('a message without a conversation begins one', () => {
  expect(causedBy(message({}))).toEqual({ correlationId: 'm-1', causationId: 'm-1' })
})

test('headers that would lose what they hold on the way are refused', async () => {
  const bus = new MemoryEventBus()
  for (const headers of [new Map([['a', 'b']]), new Headers({ a: 'b' }), new Date()])
    await expect(bus.publish({ type: 'A', data: 1, headers: headers as never })).rejects.toThrow(
      'message.headers: expected a plain object of strings',
    )
  const bare = Object.assign(Object.create(null) as Record<string, string>, { a: 'b' })
  await bus.publish({ type: 'A', data: 1, headers: bare })
})
