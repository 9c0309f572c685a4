import { expect, onTestFinished, test } from 'vitest'
import {
  MemoryCheckpoints,
  MemoryEventStore,
  subscribe,
  type Checkpoints,
  type Event,
  type Subscription,
  type SubscriptionOptions,
} from '../../src/event-sourcing/index.js'
import { partitionOf } from '../../src/event-sourcing/partitions.js'
import { StoreError } from '../../src/kernel/errors.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'

type Counted = Event<'e', number>
const COUNT = 8

function open() {
  const clock = new ManualClock()
  const store = new MemoryEventStore<Counted>({ clock })
  const checkpoints = new MemoryCheckpoints({ clock })
  const started: Subscription[] = []
  onTestFinished(async () => {
    const stopped = Promise.all(started.map((subscription) => subscription.stop()))
    await clock.advance(60_000)
    await stopped
    expect(clock.pendingTimers).toBe(0)
  })
  /** Who handled what, in order. */
  const seen: { who: string; stream: string; n: number; tag: number }[] = []
  const start = (
    who: string,
    options: SubscriptionOptions<Counted> = {},
    cp: Checkpoints = checkpoints,
  ): Subscription => {
    const subscription = subscribe(
      store,
      cp,
      'n',
      ({ streamId, data, version }) => void seen.push({ who, stream: streamId, n: data, tag: version }),
      { clock, leaseMs: 1_000, partitions: { count: COUNT, by: (e) => e.streamId }, ...options },
    )
    subscription.on('failed', () => {})
    started.push(subscription)
    return subscription
  }
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 25) {
      await settle()
      await clock.advance(25)
    }
    await settle()
  }
  /** One event for each partition. Gives how many each process handled. */
  const streams = Array.from({ length: COUNT }, (_, i) => {
    for (let n = 0; ; n++) if (partitionOf(`s${n}`, COUNT) === i) return `s${n}`
  })
  let next = 0
  const round = async (): Promise<Record<string, number>> => {
    const from = seen.length
    for (const stream of streams) await store.append(stream, [{ type: 'e', data: next++ }])
    await pass(1_500)
    const counts: Record<string, number> = {}
    for (const { who } of seen.slice(from)) counts[who] = (counts[who] ?? 0) + 1
    return counts
  }
  return { clock, store, checkpoints, start, pass, round, seen, streams }
}

test('partitions are shared out fairly; who joins gets a share, and those of who leaves go to the others', async () => {
  const { start, pass, round } = open()
  const a = start('a')
  await pass(1_000)
  expect(await round()).toEqual({ a: 8 })
  const b = start('b')
  await pass(1_000) // a lease
  expect(await round()).toEqual({ a: 4, b: 4 })
  start('c')
  await pass(1_000)
  expect(await round()).toEqual({ a: 3, b: 3, c: 2 })
  await a.stop()
  await pass(1_000)
  expect(await round()).toEqual({ b: 4, c: 4 })
  expect(b.state).toBe('live')
})

test('a dead process’s partitions are taken over when its lease is over, and go on where they stood', async () => {
  const { start, pass, round, checkpoints, seen } = open()
  let dead = false
  const dying = new Proxy(checkpoints, {
    get: (target, key) => {
      if (dead) return () => Promise.reject(new StoreError('cut off'))
      const member: unknown = Reflect.get(target, key)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
  start('a', {}, dying)
  start('b')
  await pass(2_000)
  expect(await round()).toEqual({ a: 4, b: 4 })
  dead = true
  await pass(2_000)
  expect(await round()).toEqual({ b: 8 })
  expect(new Set(seen.map(({ n }) => n)).size).toBe(16)
})

test('more processes than partitions: the others stand by', async () => {
  const { start, pass, round } = open()
  const all = Array.from({ length: COUNT + 2 }, (_, i) => start(`p${i}`))
  await pass(3_000)
  expect(Object.values(await round())).toEqual(Array.from({ length: COUNT }, () => 1))
  expect(all.filter(({ state }) => state === 'standby')).toHaveLength(2)
})

test('position, reached() and lag() speak of the slowest partition, whoever works on it', async () => {
  const { store, start, pass, streams } = open()
  let release!: () => void
  const hold = new Promise<void>((resolve) => (release = resolve))
  const slow = start('a')
  await pass(500)
  await store.append(streams[0] as string, [{ type: 'e', data: 1 }])
  await pass(1_000)
  expect([slow.position, await slow.lag()]).toEqual([1, 0])
  const other = subscribe(store, new MemoryCheckpoints(), 'held', () => hold, {
    partitions: { count: 2, by: (e: { streamId: string }) => e.streamId },
  })
  await settle()
  await settle()
  await store.append(streams[1] as string, [{ type: 'e', data: 2 }])
  const late = other.reached(2, 50)
  await expect(late).rejects.toMatchObject({ code: 'TIMEOUT' })
  release()
  await other.reached(2, 5_000)
  expect(other.position).toBe(2)
  await other.stop()
  await expect(other.reached(3)).rejects.toMatchObject({ code: 'CLOSED' })
})

test('another number of partitions under the same name is refused, and so is none', async () => {
  const { start, pass, round } = open()
  const first = start('a')
  await pass(500)
  const more = start('b', { partitions: { count: 9, by: (e) => e.streamId } })
  const whole = start('c', { partitions: undefined })
  await pass(500)
  expect([first.state, more.state, whole.state]).toEqual(['live', 'failed', 'failed'])
  await expect(more.reached(1)).rejects.toMatchObject({
    cause: { code: 'INVALID_OPTION', message: expect.stringContaining('8 partitions, not 9') as string },
  })
  expect(await round()).toEqual({ a: 8 })
})

test('a subscription that has run whole is not cut into partitions', async () => {
  const { start, pass } = open()
  const whole = start('a', { partitions: undefined })
  await pass(200)
  await whole.stop()
  const cut = start('b')
  await pass(500)
  expect(cut.state).toBe('failed')
})

test.each(['n#5', 'n#partitions'])(
  'from the end: every partition begins at the same place, also when who began it died at %s',
  async (diesAt) => {
    const { store, start, pass, round, seen, checkpoints } = open()
    await store.append('before', [{ type: 'e', data: -1 }])
    let dead = false
    const dying: Checkpoints = Object.assign(Object.create(checkpoints) as Checkpoints, {
      position: checkpoints.position.bind(checkpoints),
      release: async () => {},
      acquire: async (...args: Parameters<Checkpoints['acquire']>) => {
        if (dead) throw new StoreError('dead')
        return checkpoints.acquire(...args)
      },
      commit: async (...args: Parameters<Checkpoints['commit']>) => {
        if (dead) throw new StoreError('dead')
        await checkpoints.commit(...args)
        dead = args[0] === diesAt
      },
    })
    const begun = start(diesAt, { from: 'end' }, dying)
    await pass(1_500)
    await begun.stop()
    const [before] = diesAt === 'n#partitions' ? [await round()] : [{}] // nobody works
    expect(before).toEqual({})
    start('b', { from: 'end' })
    await pass(3_000)
    if (diesAt !== 'n#partitions') await round()
    expect(seen.map(({ n }) => n).toSorted((x, y) => x - y)).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
  },
)

test('one partition that fails ends the whole subscription', async () => {
  const { store, pass, streams, clock, checkpoints } = open()
  const boom = new Error('boom')
  const subscription = subscribe(
    store,
    checkpoints,
    'f',
    ({ data }) => {
      if (data === 1) throw boom
    },
    { clock, retry: { attempts: 1 }, partitions: { count: 4, by: (e) => e.streamId } },
  )
  const failures: unknown[] = []
  subscription.on('failed', ({ error }) => failures.push(error))
  await pass(500)
  await store.append(streams[0] as string, [{ type: 'e', data: 1 }])
  await pass(500)
  expect([subscription.state, failures]).toEqual(['failed', [boom]])
})

test('a mistake in the partitions is found at once', () => {
  const { start } = open()
  const bad = (partitions: object) => () => start('a', { partitions: partitions as never })
  expect(bad({ count: 0, by: String })).toThrow(/partitions.count/)
  expect(bad({ count: 2_000, by: String })).toThrow(/partitions.count/)
  expect(bad({ count: 2 })).toThrow(/partitions.by/)
})

prop(
  'each stream is handled in order, nothing left out and nothing twice, while processes join and leave',
  [fc.array(fc.oneof(fc.constant('join'), fc.constant('leave'), fc.constant('append')), { maxLength: 25 })],
  async (steps) => {
    const clock = new ManualClock()
    const store = new MemoryEventStore<Counted>({ clock })
    const checkpoints = new MemoryCheckpoints({ clock })
    const seen = new Map<string, number[]>()
    const running: Subscription[] = []
    const join = (): void => {
      const subscription = subscribe(
        store,
        checkpoints,
        'n',
        async ({ streamId, version }) => {
          await clock.sleep(3)
          seen.set(streamId, [...(seen.get(streamId) ?? []), version])
        },
        { clock, leaseMs: 200, batch: 3, pollMs: 20, partitions: { count: 3, by: (e) => e.streamId } },
      )
      running.push(subscription)
    }
    join()
    const sizes = new Map<string, number>()
    for (const [i, step] of steps.entries()) {
      if (step === 'join') join()
      else if (step === 'leave' && running.length > 1) void running.shift()?.stop()
      else {
        const stream = `s${i % 5}`
        await store.append(stream, [
          { type: 'e', data: i },
          { type: 'e', data: i },
        ])
        sizes.set(stream, (sizes.get(stream) ?? 0) + 2)
      }
      await clock.advance(30)
    }
    await clock.advance(3_000)
    for (const [stream, size] of sizes) expect(seen.get(stream)).toEqual(Array.from({ length: size }, (_, i) => i + 1))
    const stopped = Promise.all(running.map((subscription) => subscription.stop()))
    await clock.advance(1_000)
    await stopped
    await clock.advance(60_000)
    expect(clock.pendingTimers).toBe(0)
  },
  { numRuns: 30 },
)
