import { expect, test } from 'vitest'
import type { Checkpoints, Event, Handler } from '../../src/event-sourcing/index.js'
import { StoreError } from '../../src/kernel/errors.js'
import { settle } from '../../src/testing/index.js'
import { gate } from '../support/gate.js'
import { open } from './subscriptions.js'

test('a handler that throws is tried again, alone, with waits in between; nothing else is repeated', async () => {
  const { start, append, clock } = open()
  await append(1, 2, 3)
  const seen: [unknown, number][] = []
  const subscription = start((event, { attempt }) => {
    seen.push([event.data, attempt])
    if (event.data === 2 && attempt < 3) throw new Error('not yet')
  })
  const errors: number[] = []
  subscription.on('error', ({ attempt }) => errors.push(attempt))
  await settle()
  expect(seen).toEqual([
    [1, 1],
    [2, 1],
  ])
  await clock.advance(99)
  expect(seen).toHaveLength(2)
  await clock.advance(1 + 200)
  expect(seen).toEqual([
    [1, 1],
    [2, 1],
    [2, 2],
    [2, 3],
    [3, 1],
  ])
  expect(errors).toEqual([1, 2])
  expect(subscription.state).toBe('live')
})

test('after the last attempt the subscription fails, its checkpoint before the event, and says why', async () => {
  const { start, append, clock, checkpoints } = open()
  await append(1, 2, 3)
  const boom = new StoreError('a store of the handler’s own')
  const subscription = start(
    (event) => {
      if (event.data === 2) throw boom
    },
    { retry: { attempts: 2 } },
  )
  const failures: unknown[] = []
  subscription.on('failed', ({ error }) => failures.push(error))
  const waiting = expect(subscription.reached(3)).rejects.toMatchObject({ code: 'CLOSED', cause: boom })
  await clock.advance(1_000)
  await waiting
  expect([subscription.state, failures, await checkpoints.position('n')]).toEqual(['failed', [boom], 1])
  const again: unknown[] = []
  start((event) => void again.push(event.data)) // the lease was given back
  await settle()
  expect(again).toEqual([2, 3])
})

// nestjs/cqrs: handlers and sagas went silent after one exception.
test('an event that can’t be handled can be parked, and the work goes on', async () => {
  const { start, append, clock, checkpoints } = open()
  await append(1, 2, 3)
  const seen: unknown[] = []
  const subscription = start(
    (event) => {
      if (event.data === 2) throw new Error('poison')
      seen.push(event.data)
    },
    { retry: { attempts: 2, giveUp: 'park' } },
  )
  const parked: unknown[] = []
  subscription.on('parked', (event) => parked.push(event))
  await clock.advance(100)
  await append(4)
  await settle()
  expect(seen).toEqual([1, 3, 4])
  expect(parked).toEqual([{ position: 2, streamId: 's', version: 2, attempts: 2, error: 'poison' }])
  expect(await checkpoints.parked('n')).toEqual(parked)
})

test('stop() waits for the event under way, keeps what is done, and tells the handler', async () => {
  const { start, append, checkpoints } = open()
  await append(1, 2, 3)
  const hold = gate()
  const seen: unknown[] = []
  let signal: AbortSignal | undefined
  const subscription = start(async (event, context) => {
    signal = context.signal
    if (event.data === 2) await hold.passed
    seen.push(event.data)
  })
  await settle()
  let stopped = false
  const stopping = subscription.stop().then(() => (stopped = true))
  await settle()
  expect([stopped, signal?.aborted]).toEqual([false, true])
  hold.open()
  await stopping
  expect([seen, await checkpoints.position('n'), subscription.state]).toEqual([[1, 2], 2, 'stopped'])
})

test('a handler that gives up because it is told to stop has not failed', async () => {
  const { start, append, checkpoints } = open()
  await append(1)
  const subscription = start(
    (_, { signal }) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  )
  const failures: unknown[] = []
  subscription.on('failed', (failure) => failures.push(failure))
  subscription.on('error', (error) => failures.push(error))
  await settle()
  await subscription.stop()
  expect([failures, subscription.state, await checkpoints.position('n')]).toEqual([[], 'stopped', 0])
})

test('a store that fails for a while delays the work, and ends nothing', async () => {
  const { start, append, store, clock } = open()
  await append(1)
  const readPage = store.readPage.bind(store)
  let down = true
  store.readPage = async (options) => {
    if (down) throw new StoreError('down')
    return readPage(options) as never
  }
  const seen: unknown[] = []
  const subscription = start((event) => void seen.push(event.data))
  const errors: unknown[] = []
  subscription.on('error', ({ error }) => errors.push(error))
  await clock.advance(3_000)
  expect([errors.length > 2, errors.length < 20, seen]).toEqual([true, true, []])
  down = false
  await clock.advance(1_000)
  expect(seen).toEqual([1])
})

// A handler that writes in a transaction: what it wrote before the failure is rolled back with the page.
test('with a transaction, a failed page is rolled back, and what stood before the failure is done once', async () => {
  const { clock, start, append, checkpoints } = open()
  await append(1, 2, 3)
  let table: unknown[] = []
  const transactional: Checkpoints<{ write(row: unknown): void }> = {
    acquire: (...args) => checkpoints.acquire(...args),
    position: (name) => checkpoints.position(name),
    release: (...args) => checkpoints.release(...args),
    parked: (name) => checkpoints.parked(name),
    park: (...args) => checkpoints.park(...args),
    async commit(name, epoch, from, to, work) {
      const rows: unknown[] = []
      await checkpoints.commit(name, epoch, from, to, () => work({ write: (row) => rows.push(row) }))
      table = [...table, ...rows]
    },
  }
  const handler: Handler<Event, { write(row: unknown): void }> = (event, { tx, attempt }) => {
    tx.write(`${String(event.data)}/${attempt}`)
    if (event.data === 2) throw new Error('poison')
  }
  start(handler as never, { retry: { attempts: 1, giveUp: 'park' } }, transactional as never)
  await clock.advance(1_000)
  expect(table).toEqual(['1/1', '3/1'])
  expect((await checkpoints.parked('n')).map((p) => [p.position, p.attempts])).toEqual([[2, 1]])
})
