import { expect, test } from 'vitest'
import { AppendQueue, type QueuedAppend, type WaitingAppend } from '../../src/event-sourcing/postgres-queue.js'
import { textsOf } from '../../src/event-sourcing/postgres-rows.js'
import { appendRequests, type AppendRequest } from '../../src/event-sourcing/request.js'
import { settle } from '../../src/testing/index.js'

function appendTo(stream: string, data: unknown = 0): QueuedAppend {
  const [request] = appendRequests([{ stream, events: [{ type: 'e', data }] }], {}) as [AppendRequest]
  return { request, texts: textsOf(request), key: undefined, signal: undefined }
}

test('appends that are large together do not travel together', async () => {
  const batches: number[] = []
  const queue = new AppendQueue(1, async (batch: readonly WaitingAppend[]) => {
    batches.push(batch.length)
    for (const { resolve } of batch) resolve([])
  })
  const large = appendTo('s', 'x'.repeat(3_000_000))
  await Promise.all(Array.from({ length: 5 }, () => queue.add(large)))
  expect(batches).toEqual([2, 2, 1])
})

test('while an append is on its way no other to its stream is sent, and none of a later one overtakes', async () => {
  const sent: string[][] = []
  const ends: (() => void)[] = []
  const queue = new AppendQueue(2, (batch) => {
    sent.push(batch.map(({ request }) => request.stream))
    return new Promise((resolve) => ends.push(resolve))
  })
  void queue.add(appendTo('a'))
  await settle()
  for (const stream of ['a', 'b', 'a']) void queue.add(appendTo(stream))
  await settle()
  void queue.add(appendTo('b'))
  expect(sent).toEqual([['a'], ['b']])
  ends[0]?.()
  await settle()
  expect(sent).toEqual([['a'], ['b'], ['a', 'a']])
  ends[1]?.()
  await settle()
  expect(sent).toEqual([['a'], ['b'], ['a', 'a'], ['b']])
})
