import { expect, test } from 'vitest'
import { z } from 'zod'
import { CommandBus, QueryBus, pollingReadModel, type ReadModel } from '../../src/cqrs/index.js'
import { MemoryCheckpoints, MemoryEventStore, subscribe, type Event } from '../../src/event-sourcing/index.js'
import { TimeoutError } from '../../src/kernel/errors.js'
import { ManualClock, settle } from '../../src/testing/manual-clock.js'
import { fc, prop } from '../support/prop.js'

interface Queries {
  Total: { in: string; out: number }
}

/** A read model that follows when it is told to, and remembers what it was asked. */
function followed(): ReadModel & { readonly asked: unknown[][]; follow(): void; fail(error: unknown): void } {
  const waiting: { resolve: () => void; reject: (error: unknown) => void }[] = []
  const asked: unknown[][] = []
  return {
    asked,
    reached: (...call) => {
      asked.push(call)
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }))
    },
    follow: () => waiting.splice(0).forEach(({ resolve }) => resolve()),
    fail: (error) => waiting.splice(0).forEach(({ reject }) => reject(error)),
  }
}

test('a query with atLeast runs when the read model has reached the position, one without at once', async () => {
  const readModel = followed()
  const bus = new QueryBus<Queries>({ readModel })
  let total = 1
  bus.on('Total', () => total)
  expect(await bus.send('Total', 'o')).toBe(1)
  expect(readModel.asked).toEqual([])
  const answer = bus.send('Total', 'o', { atLeast: 7, timeoutMs: 300 })
  await settle()
  total = 2
  readModel.follow()
  expect(await answer).toBe(2)
  expect(readModel.asked).toEqual([[7, 300, undefined]])
})

test('a read model that is late ends the query with its TimeoutError, and the handler does not run', async () => {
  const readModel = followed()
  const bus = new QueryBus<Queries>({ readModel })
  bus.on('Total', () => expect.fail('ran'))
  const answer = bus.send('Total', 'o', { atLeast: 7 })
  await settle()
  const late = new TimeoutError('late', 5_000)
  readModel.fail(late)
  await expect(answer).rejects.toBe(late)
  expect(readModel.asked).toEqual([[7, 5_000, undefined]])
})

test("a type's own read model goes before that of the bus, as long as its handler stands", async () => {
  const [shared, own] = [followed(), followed()]
  const bus = new QueryBus<Queries>({ readModel: shared })
  const off = bus.on('Total', () => 1, { readModel: own })
  const first = bus.send('Total', 'o', { atLeast: 1 })
  await settle()
  own.follow()
  expect(await first).toBe(1)
  off()
  bus.on('Total', () => 2)
  const second = bus.send('Total', 'o', { atLeast: 1 })
  await settle()
  shared.follow()
  expect(await second).toBe(2)
  expect([own.asked.length, shared.asked.length]).toEqual([1, 1])
})

test('a query waits for the read model of the handler that answers it, whatever is registered meanwhile', async () => {
  const [own, other] = [followed(), followed()]
  const bus = new QueryBus<Queries>({ readModel: other })
  const off = bus.on('Total', () => 1, { readModel: own, schema: z.string() })
  const answer = bus.send('Total', 'o', { atLeast: 1 })
  off()
  bus.on('Total', () => 2, { readModel: own })
  off()
  await settle()
  const second = bus.send('Total', 'o', { atLeast: 1 })
  await settle()
  own.follow()
  expect([await answer, await second]).toEqual([1, 2])
  expect([own.asked.length, other.asked.length]).toEqual([2, 0])
})

test('an abort ends the wait with its reason, also where the read model does not look at signals', async () => {
  const bus = new QueryBus<Queries>({ readModel: followed() })
  bus.on('Total', () => expect.fail('ran'))
  const controller = new AbortController()
  const answer = bus.send('Total', 'o', { atLeast: 1, signal: controller.signal })
  await settle()
  const reason = new Error('gone')
  controller.abort(reason)
  await expect(answer).rejects.toBe(reason)
})

test('a query that is refused waits for nothing', async () => {
  const readModel = followed()
  const bus = new QueryBus<Queries>({ readModel })
  bus.on('Total', () => expect.fail('ran'), { schema: z.string().min(1) })
  await expect(bus.send('Total', '', { atLeast: 1 })).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
  expect(readModel.asked).toEqual([])
})

test('atLeast without a read model, or out of its range, is a mistake of the caller', async () => {
  const bus = new QueryBus<Queries>()
  bus.on('Total', () => expect.fail('ran'))
  for (const options of [
    { atLeast: 1 },
    { atLeast: -1 },
    { atLeast: NaN },
    { atLeast: 1, timeoutMs: -1 },
    { timeoutMs: NaN },
  ])
    await expect(bus.send('Total', 'o', options)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  for (const readModel of [7, {}]) {
    expect(() => new QueryBus({ readModel: readModel as never })).toThrow(/readModel/)
    expect(() => bus.on('Total', () => 1, { readModel: readModel as never })).toThrow(/readModel/)
  }
})

test('a command writes once for its message id, and a query that follows it sees what it wrote', async () => {
  type Deposited = Event<'Deposited', { cents: number }>
  interface Commands {
    Deposit: { in: { account: string; cents: number }; out: { position: number; duplicate: boolean } }
  }
  const clock = new ManualClock()
  const store = new MemoryEventStore<Deposited>({ clock })
  const totals = new Map<string, number>()
  const projection = subscribe<Deposited, undefined>(
    store,
    new MemoryCheckpoints({ clock }),
    'totals',
    (event) => void totals.set(event.streamId, (totals.get(event.streamId) ?? 0) + event.data.cents),
    { clock },
  )
  const commands = new CommandBus<Commands>()
  commands.on('Deposit', ({ account, cents }, context) =>
    store.append(account, [{ type: 'Deposited', data: { cents } }], context),
  )
  const queries = new QueryBus<Queries>({ readModel: projection })
  queries.on('Total', (account) => totals.get(account) ?? 0)

  const options = { messageId: 'm-1', metadata: { correlationId: 'talk', userId: 7 } }
  const first = await commands.send('Deposit', { account: 'a', cents: 5 }, options)
  const again = await commands.send('Deposit', { account: 'a', cents: 5 }, options)
  expect([first.duplicate, again.duplicate, again.position]).toEqual([false, true, first.position])
  const answer = queries.send('Total', 'a', { atLeast: first.position })
  await clock.advance(2_000)
  expect(await answer).toBe(5)
  const recorded = []
  for await (const event of store.read('a')) recorded.push(event.metadata)
  expect(recorded).toEqual([{ correlationId: 'talk', causationId: 'm-1', userId: 7 }])

  const never = queries.send('Total', 'a', { atLeast: first.position + 1, timeoutMs: 100 })
  const refused = expect(never).rejects.toMatchObject({ code: 'TIMEOUT', timeoutMs: 100 })
  await clock.advance(200)
  await refused
  await projection.stop()
})

test('a polling read model looks until the position is there, and only while somebody waits', async () => {
  const clock = new ManualClock()
  let [position, looks] = [3, 0]
  const look = async (): Promise<number> => {
    looks++
    return position
  }
  const readModel = pollingReadModel(look, { clock, pollMs: 50 })
  await readModel.reached(3)
  expect(looks).toBe(1)
  let done = false
  const waiting = readModel.reached(5, 1_000).then(() => (done = true))
  await clock.advance(120)
  expect([done, looks]).toEqual([false, 4])
  position = 6
  await clock.advance(30)
  await waiting
  await clock.advance(1_000)
  expect([looks, clock.pendingTimers]).toEqual([5, 0])
})

test('a polling read model is asked once for all who wait at the same time', async () => {
  const clock = new ManualClock()
  let looks = 0
  let answer: (position: number) => void = () => {}
  const readModel = pollingReadModel(
    () => {
      looks++
      return new Promise<number>((resolve) => (answer = resolve))
    },
    { clock },
  )
  const all = Promise.all([readModel.reached(1), readModel.reached(2), readModel.reached(3)])
  await settle()
  answer(3)
  await all
  expect(looks).toBe(1)
})

test('a polling read model times out even while its question hangs, and passes on what it throws', async () => {
  const clock = new ManualClock()
  let looks = 0
  const readModel = pollingReadModel(() => (++looks === 1 ? new Promise<number>(() => {}) : 1), { clock })
  const hanging = readModel.reached(1, 200)
  const timedOut = expect(hanging).rejects.toMatchObject({ code: 'TIMEOUT', timeoutMs: 200 })
  await clock.advance(200)
  await timedOut
  await readModel.reached(1, 200) // who asks later does not hang with it
  const error = new Error('no database')
  await expect(pollingReadModel(() => Promise.reject(error), { clock }).reached(1)).rejects.toBe(error)
  const controller = new AbortController()
  const aborted = pollingReadModel(() => 0, { clock }).reached(1, 1_000, controller.signal)
  await settle()
  controller.abort(error)
  await expect(aborted).rejects.toBe(error)
  expect(clock.pendingTimers).toBe(0)
  expect(() => pollingReadModel(() => 0, { pollMs: 0 })).toThrow(/pollMs/)
})

test('a polling read model whose question is answered with no number has not reached anything', async () => {
  for (const answer of [undefined, NaN, '7'])
    await expect(pollingReadModel(() => answer as never).reached(1, 1_000)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('the result of position'),
    })
})

prop(
  'a query never answers from before the position it asked for, whatever the read model does meanwhile',
  [
    fc.array(
      fc.oneof(
        fc.record({ kind: fc.constant('write' as const) }),
        fc.record({ kind: fc.constant('project' as const), ms: fc.integer({ min: 0, max: 120 }) }),
        fc.record({ kind: fc.constant('ask' as const), timeoutMs: fc.integer({ min: 0, max: 300 }) }),
      ),
      { maxLength: 30 },
    ),
  ],
  async (steps) => {
    const clock = new ManualClock()
    let [written, projected] = [0, 0]
    const bus = new QueryBus<Queries>({ readModel: pollingReadModel(() => projected, { clock, pollMs: 20 }) })
    bus.on('Total', () => projected)
    const asked: Promise<void>[] = []
    for (const step of steps) {
      if (step.kind === 'write') written++
      else if (step.kind === 'project') {
        await clock.advance(step.ms)
        projected = Math.min(written, projected + 1)
      } else {
        const atLeast = written
        const began = clock.now()
        asked.push(
          bus.send('Total', 'o', { atLeast, timeoutMs: step.timeoutMs }).then(
            (answer) => expect(answer).toBeGreaterThanOrEqual(atLeast),
            (error: unknown) => {
              expect(error).toMatchObject({ code: 'TIMEOUT' })
              expect(clock.now() - began).toBe(step.timeoutMs)
            },
          ),
        )
        await settle()
      }
    }
    await clock.advance(500)
    await Promise.all(asked)
    expect(clock.pendingTimers).toBe(0)
  },
)
