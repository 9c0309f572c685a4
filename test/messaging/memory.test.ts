import { expect, test } from 'vitest'
import { z } from 'zod'
import { MemoryEventBus, type EventBus } from '../../src/messaging/index.js'
import { ManualClock, settle } from '../../src/testing/manual-clock.js'

const fail = (): never => {
  throw new Error('no')
}

test('a full group refuses messages for all, none is stored, and what is done or dropped makes room', async () => {
  const bus = new MemoryEventBus({ maxBacklog: 3 })
  const fine: unknown[] = []
  await bus.subscribe({ group: 'fine', types: '*', handle: ({ data }) => void fine.push(data) })
  const stuck = await bus.subscribe({ group: 'stuck', types: ['A'], handle: fail, retry: { attempts: 1 } })
  await bus.publish({ type: 'A', id: 'dead', data: 0 })
  await settle()
  await stuck.close()
  await bus.publish([1, 2].map((data) => ({ type: 'A', data })))
  await settle()
  const refused = bus.publish([
    { type: 'B', data: 'b' },
    { type: 'A', data: 3 },
  ])
  await expect(refused).rejects.toMatchObject({
    name: 'BacklogFullError',
    code: 'BACKLOG_FULL',
    group: 'stuck',
    limit: 3,
    message: expect.stringContaining('"stuck"'),
  })
  await settle()
  expect(fine).toEqual([0, 1, 2])
  await bus.publish({ type: 'B', data: 'b' }) // the full group does not take it
  await bus.deadLetters('stuck').drop('dead')
  await bus.publish({ type: 'A', data: 3 })
  await settle()
  expect(fine).toEqual([0, 1, 2, 'b', 3])
  expect(bus.stats()).toMatchObject([
    { group: 'fine', waiting: 0 },
    { group: 'stuck', waiting: 3, dead: 0 },
  ])
})

test('messages in a handler and messages to be tried again count as held', async () => {
  const clock = new ManualClock()
  const bus = new MemoryEventBus({ maxBacklog: 2, clock })
  await bus.subscribe({
    group: 'g',
    types: '*',
    retry: { backoff: () => 100 },
    handle: ({ data }) => (data === 'hang' ? new Promise(() => {}) : fail()),
    graceMs: 0,
  })
  await bus.publish([
    { type: 'A', data: 'hang' },
    { type: 'A', data: 'fail' },
  ])
  await settle()
  expect(bus.stats()).toEqual([{ group: 'g', waiting: 0, running: 1, retrying: 1, dead: 0 }])
  await expect(bus.publish({ type: 'A', data: 1 })).rejects.toMatchObject({ code: 'BACKLOG_FULL' })
  await bus.close()
  expect(bus.stats()).toEqual([{ group: 'g', waiting: 2, running: 0, retrying: 0, dead: 0 }])
  expect(clock.pendingTimers).toBe(0)
})

test("a message that no group takes is forgotten and told of, or refused where the bus was told 'reject'", async () => {
  const lenient = new MemoryEventBus()
  const told: unknown[] = []
  lenient.on('unrouted', (event) => told.push(event))
  await lenient.publish({ id: 'm', type: 'A', data: 1 })
  expect(told).toEqual([{ id: 'm', type: 'A' }])

  const strict = new MemoryEventBus({ unrouted: 'reject' })
  const seen: unknown[] = []
  await strict.subscribe({ group: 'g', types: ['A'], handle: ({ data }) => void seen.push(data) })
  const refused = strict.publish([
    { type: 'A', data: 1 },
    { type: 'B', data: 2 },
  ])
  await expect(refused).rejects.toMatchObject({ name: 'UnroutedError', code: 'UNROUTED', type: 'B' })
  await strict.publish({ type: 'A', data: 3 })
  await settle()
  expect(seen).toEqual([3])
})

test('what is published is checked by the schema of the bus: all or none, and what the schema gives back is sent', async () => {
  interface Shop {
    Placed: { cents: number }
    Paid: string
  }
  const bus = new MemoryEventBus<Shop>({ schema: { Placed: z.object({ cents: z.number().positive() }) } })
  const seen: unknown[] = []
  await bus.subscribe({ group: 'g', types: '*', handle: ({ data }) => void seen.push(data) })
  const refused = bus.publish([
    { type: 'Paid', data: 'first' },
    { type: 'Placed', data: { cents: -1 } },
  ])
  await expect(refused).rejects.toMatchObject({ code: 'INVALID_PAYLOAD', issues: [{ path: ['cents'] }] })
  await bus.publish({ type: 'Placed', data: { cents: 1, extra: true } as { cents: number } })
  await settle()
  expect(seen).toEqual([{ cents: 1 }])
})

test('publish calls keep their order however long their schemas take, and one that fails holds up none', async () => {
  const release: (() => void)[] = []
  const slow = z.number().refine(async (n) => {
    if (n === 0) await new Promise<void>((resolve) => release.push(resolve))
    return n >= 0
  })
  const bus = new MemoryEventBus<{ A: number }>({ schema: { A: slow } })
  const seen: number[] = []
  await bus.subscribe({ group: 'g', types: ['A'], handle: ({ data }) => void seen.push(data) })
  const calls = [0, -1, 1, 2].map((data) => bus.publish({ type: 'A', key: 'k', data }))
  const outcomes = Promise.allSettled(calls)
  await settle()
  expect(seen).toEqual([])
  for (const go of release) go()
  expect((await outcomes).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled'])
  await settle()
  expect(seen).toEqual([0, 1, 2])
})

test('types called like parts of every object have no schema by accident', async () => {
  const bus = new MemoryEventBus<Record<string, unknown>>({ schema: { A: z.number() } })
  const seen: string[] = []
  await bus.subscribe({ group: 'g', types: '*', schema: { A: z.number() }, handle: ({ type }) => void seen.push(type) })
  await bus.publish(['__proto__', 'constructor', 'toString'].map((type) => ({ type, data: 'x' })))
  await settle()
  expect(seen).toEqual(['__proto__', 'constructor', 'toString'])
})

test('handlers run after publish has returned to its caller, never inside it', async () => {
  const bus = new MemoryEventBus()
  const order: string[] = []
  await bus.subscribe({ group: 'g', types: '*', handle: () => void order.push('handled') })
  const published = bus.publish({ type: 'A', data: 1 })
  order.push('published')
  await published
  await settle()
  expect(order).toEqual(['published', 'handled'])
})

test('a message that waits for types which its group no longer takes is a dead letter, not lost', async () => {
  const bus = new MemoryEventBus()
  const first = await bus.subscribe({ group: 'g', types: ['A', 'B'], handle: () => {} })
  await first.close()
  await bus.publish([
    { id: 'a', type: 'A', data: 1 },
    { id: 'b', type: 'B', data: 2 },
  ])
  const seen: string[] = []
  const second = await bus.subscribe({ group: 'g', types: ['B'], handle: ({ id }) => void seen.push(id) })
  await settle()
  expect(seen).toEqual(['b'])
  expect(await bus.deadLetters('g').list()).toMatchObject([
    { id: 'a', reason: 'unhandled', attempts: 0, firstError: { code: 'NOT_FOUND' } },
  ])
  await second.close()
  await bus.subscribe({ group: 'g', types: ['A', 'B'], handle: ({ id }) => void seen.push(id) })
  await bus.deadLetters('g').requeue('a')
  await settle()
  expect(seen).toEqual(['b', 'a'])
})

test('a message that begets another for ever starves no timer', async () => {
  const clock = new ManualClock()
  const bus = new MemoryEventBus({ clock })
  let runs = 0
  await bus.subscribe({
    group: 'g',
    types: '*',
    handle: async () => {
      if (++runs < 5_000) await bus.publish({ type: 'A', data: runs })
    },
  })
  await bus.publish({ type: 'A', data: 0 })
  await settle()
  expect(runs).toBe(1_000)
  await clock.advance(0)
  expect(runs).toBe(5_000)
})

test('handlers that still run may publish while the bus closes; what they publish waits', async () => {
  const bus = new MemoryEventBus()
  await bus.subscribe({
    group: 'g',
    types: ['A'],
    handle: async () => {
      await settle()
      await bus.publish({ type: 'B', data: 2 })
    },
  })
  const other = await bus.subscribe({ group: 'h', types: ['B'], handle: () => expect.fail('taken after close') })
  await bus.publish({ type: 'A', data: 1 })
  await Promise.resolve()
  await bus.close()
  await other.close()
  expect(bus.stats()).toMatchObject([
    { group: 'g', waiting: 0, running: 0, dead: 0 },
    { group: 'h', waiting: 1 },
  ])
})

test('an idle bus and a bus without open subscriptions hold no timer', async () => {
  const clock = new ManualClock()
  const bus = new MemoryEventBus({ clock })
  const subscription = await bus.subscribe({ group: 'g', types: '*', handle: fail })
  await bus.publish([1, 2].map((data) => ({ type: 'A', data })))
  await settle()
  expect(clock.pendingTimers).toBe(2)
  await subscription.close()
  expect(clock.pendingTimers).toBe(0)
  const seen: unknown[] = []
  await bus.subscribe({ group: 'g', types: '*', handle: ({ data }) => void seen.push(data) })
  await settle()
  expect(seen).toEqual([1, 2]) // at once, in order: nobody waited for their backoff
  expect(clock.pendingTimers).toBe(0)
})

test('a handler that fails when nobody is left to try again leaves no timer behind', async () => {
  const clock = new ManualClock()
  const bus = new MemoryEventBus({ clock })
  const handle = async (): Promise<void> => {
    await clock.sleep(10)
    fail()
  }
  const subscription = await bus.subscribe({ group: 'g', types: '*', handle })
  await bus.publish({ type: 'A', data: 1 })
  await settle()
  const closing = subscription.close()
  await clock.advance(10)
  await closing
  expect(clock.pendingTimers).toBe(0)
  expect(bus.stats()).toMatchObject([{ waiting: 1, running: 0, retrying: 0, dead: 0 }])
})

test('what is given back waits in the order in which it was handed out', async () => {
  const bus = new MemoryEventBus()
  const hang = (): Promise<void> => new Promise(() => {})
  const first = await bus.subscribe({ group: 'g', types: '*', handle: hang, concurrency: 3, graceMs: 0 })
  await bus.publish([0, 1, 2, 3, 4].map((data) => ({ type: 'A', data })))
  await settle()
  await first.close()
  const seen: unknown[] = []
  await bus.subscribe({ group: 'g', types: '*', handle: ({ data }) => void seen.push(data), concurrency: 1 })
  await settle()
  expect(seen).toEqual([0, 1, 2, 3, 4])
})

test('the subscriptions of a group take turns', async () => {
  const bus = new MemoryEventBus()
  const seen: string[] = []
  for (const name of ['one', 'two', 'three'])
    await bus.subscribe({ group: 'g', types: '*', handle: () => void seen.push(name) })
  for (let data = 0; data < 6; data++) {
    await bus.publish({ type: 'A', data })
    await settle()
  }
  expect(seen).toEqual(['one', 'two', 'three', 'one', 'two', 'three'])
})

test('a bus of typed messages passes where something to publish to is asked for, and handlers see each type with its data', async () => {
  interface Shop {
    Placed: { cents: number }
    Paid: string
  }
  const bus = new MemoryEventBus<Shop>()
  const port: EventBus<Shop> = bus
  const any: Pick<EventBus, 'publish'> = bus
  let sum = 0
  await port.subscribe({
    group: 'g',
    types: ['Placed', 'Paid'],
    handle: (message) => {
      if (message.type === 'Placed') sum += message.data.cents
      else sum += message.data.length
    },
  })
  await port.publish({ type: 'Placed', data: { cents: 5 } })
  // @ts-expect-error the data of another type
  await port.publish({ type: 'Paid', data: { cents: 5 } }).catch(() => {})
  await any.publish({ type: 'Paid', data: 'abc' })
  await settle()
  expect(sum).toBeNaN()
})
