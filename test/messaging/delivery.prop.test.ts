import { expect } from 'vitest'
import { MemoryEventBus, type BusSubscription, type DeliveryContext, type Message } from '../../src/messaging/index.js'
import { ManualClock } from '../../src/testing/manual-clock.js'
import { fc, prop } from '../support/prop.js'

/** What happens to one message: how often it fails before it is handled, and whether it ever is. */
interface Fate {
  readonly n: number
  readonly fails: number
  readonly poison: boolean
}

const outgoing = fc.record({
  key: fc.option(fc.constantFrom('a', 'b', 'c'), { nil: undefined }),
  fails: fc.integer({ min: 0, max: 2 }),
  poison: fc.boolean(),
  ms: fc.integer({ min: 0, max: 30 }),
})
const ATTEMPTS = 3

const plan = fc.record({
  order: fc.constantFrom('key' as const, 'none' as const),
  concurrency: fc.integer({ min: 1, max: 4 }),
  graceMs: fc.constantFrom(0, 10, Infinity),
  backoffMs: fc.integer({ min: 0, max: 40 }),
  steps: fc.array(
    fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({ kind: fc.constant('publish' as const), batch: fc.array(outgoing, { maxLength: 4 }) }),
      },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 60 }) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('join' as const) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('leave' as const) }) },
    ),
    { maxLength: 25 },
  ),
})

prop(
  'whatever fails, and whoever comes and goes: well messages are handled, poison is dead, each key in order, nothing is lost',
  [plan],
  async ({ order, concurrency, graceMs, backoffMs, steps }) => {
    const clock = new ManualClock()
    const bus = new MemoryEventBus<{ A: Fate }>({ clock, random: () => 0 })
    const published: { n: number; key: string | undefined; poison: boolean }[] = []
    const durations: number[] = []
    /** Every start and every end of a handler, as they happened. */
    const log: { n: number; key: string | undefined; what: 'start' | 'done' | 'failed' | 'abandoned' }[] = []
    const handle = async ({ data, key }: Message<'A', Fate>, { signal }: DeliveryContext): Promise<void> => {
      const note = (what: (typeof log)[number]['what']): void => void log.push({ n: data.n, key, what })
      const failed = log.filter(({ n, what }) => n === data.n && what === 'failed').length
      note('start')
      signal.addEventListener('abort', () => note('abandoned'), { once: true })
      await clock.sleep(durations[data.n] as number)
      if (signal.aborted) return // the message was given back: this run no longer counts
      const ok = !data.poison && failed >= data.fails
      note(ok ? 'done' : 'failed')
      if (!ok) throw new Error(`message ${data.n}`)
    }
    const open: BusSubscription[] = []
    const join = async (): Promise<void> => {
      const retry = { attempts: ATTEMPTS, backoff: () => backoffMs, retryOn: () => true }
      open.push(await bus.subscribe({ group: 'g', types: ['A'], handle, order, concurrency, graceMs, retry }))
    }
    const leaving: Promise<void>[] = []

    await join()
    for (const step of steps) {
      if (step.kind === 'wait') await clock.advance(step.ms)
      else if (step.kind === 'join') await join()
      else if (step.kind === 'leave') leaving.push(open.pop()?.close() ?? Promise.resolve())
      else {
        const batch = step.batch.map(({ key, fails, poison, ms }) => {
          const n = published.push({ n: published.length, key, poison }) - 1
          durations.push(ms)
          return { type: 'A' as const, key, data: { n, fails, poison } }
        })
        await bus.publish(batch)
      }
    }
    if (open.length === 0) await join()
    await clock.advance(20_000)
    await Promise.all(leaving)

    // Interrupted attempts count as attempts, so a message that somebody left in mid-run may die earlier; it is never lost.
    const letters = await bus.deadLetters('g').list(1_000)
    const dead = new Set(letters.map(({ message }) => message.data.n))
    for (const { n, poison } of published) {
      const [done, failed, abandoned] = (['done', 'failed', 'abandoned'] as const).map(
        (what) => log.filter((one) => one.n === n && one.what === what).length,
      ) as [number, number, number]
      expect(done + (dead.has(n) ? 1 : 0)).toBe(1) // exactly one end, as no handler was killed after its work
      if (poison) expect(dead.has(n)).toBe(true)
      else if (abandoned === 0) expect(dead.has(n)).toBe(false)
      if (abandoned === 0) expect(failed).toBeLessThanOrEqual(ATTEMPTS)
    }
    expect(letters).toHaveLength(dead.size)
    expect(bus.stats()).toEqual([{ group: 'g', waiting: 0, running: 0, retrying: 0, dead: dead.size }])
    expect(clock.pendingTimers).toBe(0)
    if (order === 'key') for (const key of ['a', 'b', 'c']) expectInOrder(log.filter((one) => one.key === key))
  },
)

/** One at a time, and a message starts only when all before it have ended for good: what has started never comes back. */
function expectInOrder(log: readonly { n: number; what: string }[]): void {
  let running: number | undefined
  let newest = -1
  for (const { n, what } of log) {
    if (what === 'start') {
      expect(running).toBeUndefined()
      expect(n).toBeGreaterThanOrEqual(newest)
      newest = n
      running = n
    } else {
      expect(n).toBe(running)
      running = undefined
    }
  }
}

prop(
  'in whatever order handlers end, a key keeps its order and every message is handled',
  [fc.scheduler(), fc.array(fc.constantFrom('a', 'b', undefined), { maxLength: 12 }), fc.integer({ min: 1, max: 5 })],
  async (scheduler, keys, concurrency) => {
    const bus = new MemoryEventBus<{ A: number }>()
    const published: Message<'A', number>[] = []
    const ended: Message<'A', number>[] = []
    const handle = async (message: Message<'A', number>): Promise<void> => {
      await scheduler.schedule(Promise.resolve(), `handler of ${message.data}`)
      ended.push(message)
    }
    for (let i = 0; i < 2; i++) await bus.subscribe({ group: 'g', types: ['A'], concurrency, handle })
    const publishing = keys.map(async (key, data) => {
      await scheduler.schedule(Promise.resolve(), `publish ${data}`)
      const message = { id: `${data}`, type: 'A' as const, key, data, headers: {}, occurredAt: new Date(0) }
      published.push(message)
      await bus.publish(message)
    })
    while (ended.length < keys.length) await scheduler.waitNext(1)
    await Promise.all(publishing)
    expect(ended.map(({ data }) => data).toSorted((a, b) => a - b)).toEqual(keys.map((_, n) => n))
    const of = (key: string, list: typeof ended): number[] => list.filter((m) => m.key === key).map(({ data }) => data)
    for (const key of ['a', 'b']) expect(of(key, ended)).toEqual(of(key, published))
    await bus.close()
  },
)
