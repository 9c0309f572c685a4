import { expect, onTestFinished, test, vi } from 'vitest'
import { MemoryEventBus, type MemoryEventBusEvents, type Message } from '../../src/messaging/index.js'
import { exponential } from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/manual-clock.js'

const fail = (): never => {
  throw new Error('no')
}

test('the wait grows from 200 ms, doubled up to 30 s, half of it at random', async () => {
  const waits: (number | undefined)[] = []
  for (const random of [() => 0, () => 1 - Number.EPSILON]) {
    const clock = new ManualClock()
    const bus = new MemoryEventBus({ clock, random })
    bus.on('failed', ({ retryInMs }) => waits.push(retryInMs && Math.round(retryInMs)))
    await bus.subscribe({ group: 'g', types: '*', handle: fail, retry: { attempts: 10 } })
    await bus.publish({ type: 'A', data: 1 })
    await clock.advance(400_000)
  }
  expect(waits).toEqual([
    ...[100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, undefined],
    ...[200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, undefined],
  ])
})

test('the backoff of the resilience primitives fits', async () => {
  const clock = new ManualClock()
  const bus = new MemoryEventBus({ clock, random: () => 0 })
  const waits: (number | undefined)[] = []
  bus.on('failed', ({ retryInMs }) => waits.push(retryInMs))
  const backoff = exponential({ initialMs: 10, jitter: 'decorrelated' })
  await bus.subscribe({ group: 'g', types: '*', handle: fail, retry: { attempts: 3, backoff } })
  await bus.publish({ type: 'A', data: 1 })
  await clock.advance(100)
  expect(waits).toEqual([10, 10, undefined])
})

test('a backoff or a retryOn that throws or answers nonsense is reported and costs no message', async () => {
  const warnings: string[] = []
  const report = vi.spyOn(process, 'emitWarning').mockImplementation((w) => void warnings.push((w as Error).message))
  onTestFinished(() => report.mockRestore())
  const clock = new ManualClock()
  const bus = new MemoryEventBus({ clock, random: () => 0 })
  let runs = 0
  const answers: (() => number)[] = [() => NaN, () => -1, fail]
  await bus.subscribe({
    group: 'g',
    types: '*',
    handle: () => (++runs <= 3 ? fail() : undefined),
    retry: {
      backoff: () => (answers[runs - 1] as () => number)(),
      retryOn: () => {
        throw new Error('retryOn is broken')
      },
    },
  })
  await bus.publish({ type: 'A', data: 1 })
  await clock.advance(10_000)
  expect(runs).toBe(4)
  expect(bus.stats()).toMatchObject([{ waiting: 0, dead: 0 }])
  expect(warnings).toHaveLength(6)
  expect(warnings.filter((text) => text.includes('the result of retry.backoff'))).toHaveLength(2)
})

test("by default the library's own errors of a wrong payload, name or option are not tried again", async () => {
  const clock = new ManualClock()
  const bus = new MemoryEventBus({ clock })
  await bus.subscribe({ group: 'g', types: '*', handle: () => bus.publish({ type: '', data: 1 }) })
  await bus.publish({ type: 'A', data: 1 })
  await clock.advance(1)
  expect(await bus.deadLetters('g').list()).toMatchObject([
    { reason: 'rejected', attempts: 1, lastError: { name: 'InvalidOptionError', code: 'INVALID_OPTION' } },
  ])
})

test('anything may be thrown: a dead letter has it as text', async () => {
  const bus = new MemoryEventBus()
  const circle: { self?: unknown } = {}
  circle.self = circle
  const thrown: unknown[] = ['text', undefined, null, { a: 1 }, circle, Symbol('s'), 12n]
  const handle = ({ data }: Message): never => {
    throw thrown[data as number]
  }
  await bus.subscribe({ group: 'g', types: '*', handle, retry: { attempts: 1 } })
  await bus.publish(thrown.map((_, data) => ({ type: 'A', key: 'k', data })))
  await settle()
  const texts = (await bus.deadLetters('g').list()).map(({ firstError }) => firstError)
  expect(texts).toEqual(
    ['text', 'undefined', 'null', '{"a":1}', 'an object', 'a symbol', '12n'].map((message) => ({
      name: 'Error',
      message,
    })),
  )
})

test('an error that throws when it is read, or has no text, is a dead letter like any other', async () => {
  const bus = new MemoryEventBus()
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  const thrown: unknown[] = [
    Object.defineProperty(new Error('no'), 'stack', { get: fail }),
    proxy,
    Object.create(null),
    Object.assign(new Error('no'), { name: 5, message: { a: 1 }, stack: 7, code: 7 }),
  ]
  const handle = ({ data }: Message): never => {
    throw thrown[data as number]
  }
  await bus.subscribe({ group: 'g', types: '*', handle, retry: { attempts: 1 } })
  await bus.publish(thrown.map((_, data) => ({ type: 'A', key: 'k', data })))
  await settle()
  expect(bus.stats()).toMatchObject([{ running: 0, dead: 4 }])
  const last = (await bus.deadLetters('g').list()).map(({ lastError }) => lastError)
  expect(last).toEqual([
    { name: 'Error', message: 'something that throws when it is read' },
    { name: 'Error', message: 'something that throws when it is read' },
    { name: 'Error', message: '{}' },
    { name: '5', message: '[object Object]' },
  ])
})

test('every outcome is told to those who listen', async () => {
  const clock = new ManualClock()
  const bus = new MemoryEventBus({ clock })
  const told: [string, unknown][] = []
  for (const name of ['handled', 'failed', 'deadLetter'] as const)
    bus.on(name, (event: MemoryEventBusEvents[typeof name]) => told.push([name, event]))
  const error = new Error('no')
  const handle = async ({ data }: Message): Promise<void> => {
    await clock.sleep(7)
    if (data === 'bad') throw error
  }
  await bus.subscribe({ group: 'g', types: '*', handle, retry: { attempts: 2, backoff: () => 3 } })
  await bus.publish({ id: 'bad', type: 'A', data: 'bad' })
  await clock.advance(30)
  await bus.publish({ id: 'good', type: 'B', data: 'good' })
  await clock.advance(30)
  const bad = { group: 'g', id: 'bad', type: 'A', durationMs: 7, error }
  expect(told).toEqual([
    ['failed', { ...bad, attempt: 1, retryInMs: 3 }],
    ['deadLetter', { group: 'g', id: 'bad', type: 'A', reason: 'attempts', attempts: 2, error }],
    ['failed', { ...bad, attempt: 2, retryInMs: undefined }],
    ['handled', { group: 'g', id: 'good', type: 'B', attempt: 1, durationMs: 7 }],
  ])
})
