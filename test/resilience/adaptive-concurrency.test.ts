import { describe, expect, test } from 'vitest'
import {
  adaptiveConcurrency,
  bulkhead,
  compose,
  isHoldfastError,
  timeout,
  type AdaptiveConcurrencyOptions,
  type Clock,
  type Policy,
} from '../../src/resilience/index.js'
import { ManualClock, seededRandom, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { deferred, failing, ok } from './calls.js'

const algorithms = ['gradient', 'vegas', 'aimd'] as const

/** A server of `workers` that each take a random time for a call, with an endless queue: the more wait, the later is each. */
class Server {
  workers: number
  readonly #queue: (() => void)[] = []
  #busy = 0
  readonly #clock: ManualClock
  readonly #random: () => number
  readonly #meanMs: number

  constructor(clock: ManualClock, random: () => number, workers: number, meanMs: number) {
    this.#clock = clock
    this.#random = random
    this.workers = workers
    this.#meanMs = meanMs
  }

  handle = async (): Promise<void> => {
    if (this.#busy >= this.workers) await new Promise<void>((resolve) => this.#queue.push(resolve))
    else this.#busy++
    await new Promise<void>((resolve) => {
      // Between half and one and a half times the mean.
      this.#clock.setTimer(resolve, this.#meanMs * (0.5 + this.#random()))
    })
    const next = this.#busy <= this.workers ? this.#queue.shift() : undefined
    if (next) next()
    else this.#busy--
  }
}

interface Load {
  readonly perSecond: number
  readonly seconds: number
}

/** Calls come at random, on average `perSecond`, whatever becomes of them. */
async function underLoad(policy: Policy, server: Server, clock: ManualClock, random: () => number, load: Load) {
  const took: number[] = []
  let refused = 0
  let late = 0
  const end = clock.now() + load.seconds * 1_000
  const arrive = (): void => {
    const startedAt = clock.now()
    policy.execute(server.handle).then(
      () => void took.push(clock.now() - startedAt),
      (error: unknown) => void (isHoldfastError(error, 'TIMEOUT') ? late++ : refused++),
    )
    const next = (-Math.log(1 - random()) * 1_000) / load.perSecond
    if (clock.now() + next < end) clock.setTimer(arrive, next)
  }
  clock.setTimer(arrive, 0)
  await clock.advance(load.seconds * 1_000)
  took.sort((a, b) => a - b)
  const [median = Infinity, p99 = Infinity] = [0.5, 0.99].map((q) => took[Math.floor(took.length * q)])
  return { goodPerSecond: took.length / load.seconds, median, p99, refused, late }
}

const WORKERS = 10
const MEAN_MS = 100
const CAPACITY = (WORKERS / MEAN_MS) * 1_000
const LIMIT_MS = 1_000

function setUp(limit: (clock: ManualClock, random: () => number) => Policy) {
  const clock = new ManualClock()
  const random = seededRandom(7)
  const server = new Server(clock, random, WORKERS, MEAN_MS)
  const policy = compose(limit(clock, random), timeout({ ms: LIMIT_MS, clock }))
  return { clock, server, drive: (load: Load) => underLoad(policy, server, clock, random, load) }
}

test('the server of these tests collapses under three times its load without a limit', async () => {
  const { drive } = setUp((clock) => bulkhead({ maxConcurrent: 1e9, clock }))
  await drive({ perSecond: 3 * CAPACITY, seconds: 3 })
  expect((await drive({ perSecond: 3 * CAPACITY, seconds: 4 })).goodPerSecond).toBeLessThan(0.1 * CAPACITY)
})

describe.each(algorithms)('%s', (algorithm) => {
  const start = (options: AdaptiveConcurrencyOptions = {}) => {
    let limiter!: ReturnType<typeof adaptiveConcurrency>
    const set = setUp((clock, random) => (limiter = adaptiveConcurrency({ algorithm, clock, random, ...options })))
    return { ...set, limiter }
  }

  test.each([2, 4])('under %d times its load the server does its work, in bounded time', async (times) => {
    const { drive, limiter } = start()
    await drive({ perSecond: times * CAPACITY, seconds: 10 })
    const { goodPerSecond, median, late } = await drive({ perSecond: times * CAPACITY, seconds: 15 })
    expect(goodPerSecond).toBeGreaterThan(0.85 * CAPACITY)
    expect(late).toBeLessThan(algorithm === 'aimd' ? 0.15 * 15 * CAPACITY : 1)
    expect(median).toBeLessThan(algorithm === 'aimd' ? LIMIT_MS : 3 * MEAN_MS)
    expect(limiter.limit).toBeGreaterThanOrEqual(WORKERS * 0.7)
    expect(limiter.limit).toBeLessThan(algorithm === 'aimd' ? 1.4 * (LIMIT_MS / MEAN_MS) * WORKERS : 3.5 * WORKERS)
  })

  test('it follows when the server gets half as strong, and when it gets twice as strong', async () => {
    const { drive, server } = start()
    await drive({ perSecond: 3 * CAPACITY, seconds: 8 })
    server.workers = WORKERS / 2
    await drive({ perSecond: 3 * CAPACITY, seconds: 15 })
    expect((await drive({ perSecond: 3 * CAPACITY, seconds: 10 })).goodPerSecond).toBeGreaterThan(0.4 * CAPACITY)
    server.workers = WORKERS
    await drive({ perSecond: 3 * CAPACITY, seconds: 15 })
    expect((await drive({ perSecond: 3 * CAPACITY, seconds: 10 })).goodPerSecond).toBeGreaterThan(0.8 * CAPACITY)
  })

  test('a load that the server can carry is hardly ever refused, and moves no limit that is not used', async () => {
    const { drive } = start()
    const { refused, late } = await drive({ perSecond: 0.5 * CAPACITY, seconds: 20 })
    expect(refused + late).toBeLessThan(0.02 * 0.5 * CAPACITY * 20)
    const idle = start({ initial: 50 })
    await idle.drive({ perSecond: 0.05 * CAPACITY, seconds: 20 })
    expect(idle.limiter.limit).toBeLessThanOrEqual(50)
  })

  prop(
    'the limit is a whole number within its bounds, never passed, and every place comes back',
    [
      fc.integer({ min: 1, max: 5 }),
      fc.nat({ max: 20 }),
      fc.array(fc.record({ ms: fc.nat({ max: 50 }), ends: fc.constantFrom('well', 'fails', 'late', 'aborted') }), {
        minLength: 50,
        maxLength: 200,
      }),
      fc.scheduler(),
    ],
    async (min, more, calls, scheduler) => {
      const clock = new ManualClock()
      const max = min + more
      const limiter = adaptiveConcurrency({ algorithm, min, max, initial: min, maxQueued: 3, clock, random: () => 0.5 })
      let before = limiter.limit
      limiter.on('limitChange', ({ from, to }) => {
        expect(from).toBe(before)
        before = to
      })
      const all = calls.map(async ({ ms, ends }, i) => {
        await scheduler.schedule(Promise.resolve(), `call ${i}`)
        const controller = new AbortController()
        const result = limiter.execute(
          async ({ signal }) => {
            expect(limiter.running).toBeLessThanOrEqual(Math.max(limiter.limit, before))
            if (ends === 'aborted') controller.abort()
            await clock.sleep(ms, signal)
            if (ends === 'fails') throw new Error('no')
            if (ends === 'late') await timeout({ ms: 1, clock }).execute(() => new Promise(() => {}))
          },
          { signal: controller.signal },
        )
        expect(Number.isInteger(limiter.limit) && limiter.limit >= min && limiter.limit <= max).toBe(true)
        await result.catch(() => {})
      })
      const done = Promise.all(all)
      while (scheduler.count() > 0) {
        await scheduler.waitOne()
        await clock.advance(5)
      }
      await clock.advance(10_000)
      await done
      expect([limiter.running, limiter.queued, clock.pendingTimers, limiter.limit]).toEqual([0, 0, 0, before])
    },
    { numRuns: 30 },
  )
})

test('a limit that grows lets in those who wait; one that shrinks leaves those who run', async () => {
  const clock = new ManualClock()
  const limiter = adaptiveConcurrency({ algorithm: 'aimd', initial: 10, maxQueued: 5, clock })
  const held = deferred()
  const running = Array.from({ length: 9 }, () => limiter.execute(() => held.promise))
  for (let i = 0; i < 9; i++) await limiter.execute(ok)
  const last = limiter.execute(ok)
  const waiting = [limiter.execute(() => held.promise), limiter.execute(() => held.promise)]
  await last
  expect([limiter.limit, limiter.running, limiter.queued]).toEqual([11, 11, 0])
  held.resolve('ok')
  await Promise.all([...running, ...waiting])
})

test('errors that are no drops, and aborted calls, are not looked at', async () => {
  const clock = new ManualClock()
  const limiter = adaptiveConcurrency({ algorithm: 'aimd', initial: 5, clock })
  for (let i = 0; i < 100; i++) await limiter.execute(failing('no')).catch(() => {})
  const controller = new AbortController()
  for (let i = 0; i < 100; i++) {
    const call = limiter.execute(() => new Promise((resolve) => setImmediate(resolve)), { signal: controller.signal })
    if (i === 50) controller.abort()
    await call.catch(() => {})
  }
  expect(limiter.limit).toBeLessThanOrEqual(10)
  const judged = adaptiveConcurrency({ algorithm: 'aimd', initial: 100, isDropped: () => true, clock })
  await Promise.all(Array.from({ length: 100 }, () => judged.execute(failing('no')).catch(() => {})))
  await settle()
  expect(judged.limit).toBe(90)
})

test.each([
  [{ algorithm: 'best' }, "algorithm: expected one of 'gradient', 'vegas', 'aimd', got \"best\""],
  [{ min: 0 }, 'min: expected an integer ≥ 1, got 0'],
  [{ min: 5, max: 4 }, 'max: expected an integer ≥ 5, got 4'],
  [{ max: 10, initial: 11 }, 'initial: expected an integer in [1, 10], got 11'],
  [{ isDropped: 1 }, 'isDropped: expected a function, got 1'],
  [{ maxQueued: -1 }, 'maxQueued: expected an integer ≥ 0, got -1'],
])('options %j: %s', (options, message) => {
  expect(() => adaptiveConcurrency(options as AdaptiveConcurrencyOptions)).toThrow(message)
})

test('who enters when the limit grows, and calls again at once, does not overtake those behind', async () => {
  const clock = new ManualClock()
  const limiter = adaptiveConcurrency({ algorithm: 'aimd', initial: 1, maxQueued: 2, clock })
  for (let i = 0; i < 9; i++) await limiter.execute(ok)
  const order: string[] = []
  const held = deferred()
  const enter = (name: string) => limiter.execute(() => (order.push(name), held.promise))
  const last = limiter.execute(ok)
  const newcomers: Promise<unknown>[] = []
  const waiting = [limiter.execute(() => newcomers.push(enter('newcomer'))), enter('second')]
  await last
  held.resolve('ok')
  await Promise.all([...waiting, ...newcomers])
  expect([limiter.limit, order]).toEqual([2, ['second', 'newcomer']])
})

test.each(algorithms)(
  '%s: when all calls are dropped the limit falls to its least, and never grows',
  async (algorithm) => {
    const clock = new ManualClock()
    const limiter = adaptiveConcurrency({ algorithm, initial: 20, clock, isDropped: () => true, random: () => 0.5 })
    const grown: unknown[] = []
    limiter.on('limitChange', (change) => change.to > change.from && grown.push(change))
    for (let round = 0; round < 60; round++)
      await Promise.allSettled(Array.from({ length: limiter.limit * 10 }, () => limiter.execute(failing('no'))))
    expect([limiter.limit, grown]).toEqual([1, []])
  },
)

test('an error of the clock as a call ends holds up nobody for longer than the next call', async () => {
  const clock = new ManualClock()
  let broken = false
  const now = (): number => {
    if (!broken) return clock.now()
    broken = false
    throw new Error('no time')
  }
  const own: Clock = { now, epochMs: () => 0, setTimer: clock.setTimer.bind(clock), sleep: clock.sleep.bind(clock) }
  const limiter = adaptiveConcurrency({ algorithm: 'aimd', initial: 1, maxQueued: 2, clock: own })
  const held = deferred()
  const first = limiter.execute(() => held.promise)
  const second = limiter.execute(ok)
  broken = true
  held.resolve('ok')
  await expect(first).rejects.toThrow('no time')
  expect(limiter.queued).toBe(1)
  expect(await limiter.execute(ok)).toBe('ok')
  expect(await second).toBe('ok')
  expect([limiter.running, limiter.queued]).toEqual([0, 0])
})
