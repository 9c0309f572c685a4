import { expect, onTestFinished, test } from 'vitest'
import {
  live,
  MemoryCheckpoints,
  MemoryEventStore,
  subscribe,
  type Checkpoints,
  type Event,
  type Handler,
  type Subscription,
  type SubscriptionOptions,
} from '../../src/event-sourcing/index.js'
import { StoreError } from '../../src/kernel/errors.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { checkpointsContract } from '../conformance/checkpoints.js'

checkpointsContract('memory', async () => {
  const clock = new ManualClock()
  return { checkpoints: new MemoryCheckpoints({ clock }), advance: (ms) => clock.advance(ms), close: async () => {} }
})

const e = (data: unknown, type = 'e', tags: string[] = []): Event => ({ type, data, tags })

function open() {
  const clock = new ManualClock()
  const store = new MemoryEventStore({ clock })
  const checkpoints = new MemoryCheckpoints({ clock })
  const started: Subscription[] = []
  onTestFinished(async () => {
    const stopped = Promise.all(started.map((subscription) => subscription.stop()))
    await clock.advance(60_000)
    await stopped
    expect(clock.pendingTimers).toBe(0) // nothing is left behind
  })
  const start = (
    handler: Handler<Event>,
    options: SubscriptionOptions = {},
    cp: Checkpoints = checkpoints,
  ): Subscription => {
    const subscription = subscribe(store, cp, 'n', handler, { clock, ...options })
    started.push(subscription)
    return subscription
  }
  const append = async (...data: unknown[]) =>
    (
      await store.append(
        's',
        data.map((d) => e(d)),
      )
    ).position
  return { clock, store, checkpoints, start, append }
}
const gate = () => {
  let pass!: () => void
  return { passed: new Promise<void>((resolve) => (pass = resolve)), open: () => pass() }
}

test('a subscription handles what is there, then what comes, in order', async () => {
  const { start, append, clock } = open()
  await append(1, 2)
  const seen: unknown[] = []
  const subscription = start((event) => void seen.push(event.data))
  expect(subscription.state).toBe('standby')
  await settle()
  expect([subscription.state, subscription.position, seen]).toEqual(['live', 2, [1, 2]])
  await append(3)
  await settle() // woken: no time has passed
  expect(seen).toEqual([1, 2, 3])
  await clock.advance(10_000)
  expect(seen).toEqual([1, 2, 3])
})

test('without a hint, polling finds what came', async () => {
  const { start, append, store, clock } = open()
  store.wake = () => () => {}
  const seen: unknown[] = []
  start((event) => void seen.push(event.data), { pollMs: 200 })
  await clock.advance(5_000)
  await append(1)
  await settle()
  expect(seen).toEqual([])
  await clock.advance(200)
  expect(seen).toEqual([1])
})

test('a page is handled event by event, and the checkpoint follows', async () => {
  const { start, append, checkpoints } = open()
  await append(1, 2, 3, 4, 5)
  const hold = gate()
  const seen: unknown[] = []
  start(
    async (event) => {
      seen.push(event.data)
      if (event.data === 4) await hold.passed
    },
    { batch: 3 },
  )
  await settle()
  expect(seen).toEqual([1, 2, 3, 4])
  expect(await checkpoints.position('n')).toBe(3)
  hold.open()
  await settle()
  expect(await checkpoints.position('n')).toBe(5)
})

test('a subscription goes on from its checkpoint, not from the start', async () => {
  const { start, append } = open()
  await append(1, 2)
  const seen: unknown[] = []
  const first = start((event) => void seen.push(event.data))
  await settle()
  await first.stop()
  expect(first.state).toBe('stopped')
  await append(3)
  start((event) => void seen.push(event.data), { from: 'end' })
  await settle()
  expect(seen).toEqual([1, 2, 3])
})

test('a new name begins where `from` says, and a restart does not move it', async () => {
  const { store, clock, append } = open()
  const dates: Date[] = []
  for (const n of [1, 2, 3]) {
    await append(n)
    dates.push(new Date(clock.epochMs()))
    await clock.advance(10)
  }
  const seenFrom = async (from: SubscriptionOptions['from']): Promise<unknown[]> => {
    const checkpoints = new MemoryCheckpoints({ clock })
    const seen: unknown[] = []
    for (const round of [0, 1]) {
      const subscription = subscribe(store, checkpoints, 'n', (event) => void seen.push(event.data), { from, clock })
      await settle()
      await subscription.stop()
      if (round === 0) await store.append('later', [e('later')])
    }
    await store.truncate('later', 99)
    return seen
  }
  expect(await seenFrom('start')).toEqual([1, 2, 3, 'later'])
  expect(await seenFrom('end')).toEqual(['later'])
  expect(await seenFrom(2)).toEqual([3, 'later'])
  expect(await seenFrom(dates[1])).toEqual([2, 3, 'later'])
  expect(await seenFrom(new Date((dates[1] as Date).getTime() + 1))).toEqual([3, 'later'])
  expect(await seenFrom(new Date(clock.epochMs() + 1))).toEqual(['later'])
})

test('from the end of an empty log: what comes while nobody works is not passed by', async () => {
  const { start, append } = open()
  const first = start(() => {}, { from: 'end' })
  await settle()
  await first.stop()
  await append(1)
  const seen: unknown[] = []
  start((event) => void seen.push(event.data), { from: 'end' })
  await settle()
  expect(seen).toEqual([1])
})

test('a query picks the events; the position passes by the others', async () => {
  const { start, store } = open()
  await store.append('s', [e(1, 'a'), e(2, 'b'), e(3, 'a', ['t'])])
  const seen: unknown[] = []
  const subscription = start((event) => void seen.push(event.data), {
    query: { items: [{ types: ['b'] }, { tags: ['t'] }] },
  })
  await settle()
  await store.append('s', [e(4, 'a')])
  await settle()
  expect([seen, subscription.position, await subscription.lag()]).toEqual([[2, 3], 4, 0])
})

test('reached() waits until everything up to a position is done', async () => {
  const { start, append, clock } = open()
  const hold = gate()
  const subscription = start(() => hold.passed)
  const position = await append(1)
  let reached = false
  const waiting = subscription.reached(position).then(() => (reached = true))
  await settle()
  expect([reached, await subscription.lag()]).toEqual([false, 1])
  hold.open()
  await waiting
  await subscription.reached(position)
  const late = subscription.reached(position + 1, 500)
  const told = expect(late).rejects.toMatchObject({ code: 'TIMEOUT', timeoutMs: 500 })
  await clock.advance(500)
  await told
})

test('who waits for a position is told when the subscription ends', async () => {
  const { start } = open()
  const subscription = start(() => {})
  const told = expect(subscription.reached(5)).rejects.toMatchObject({ code: 'CLOSED' })
  await subscription.stop()
  await told
  await expect(subscription.reached(5)).rejects.toMatchObject({ code: 'CLOSED' })
})

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

// dcb-es: two runners of one name counted every event twice.
test('of two under one name one works; the other takes over when it stops', async () => {
  const { start, append, clock } = open()
  const seen: string[] = []
  const a = start((event) => void seen.push(`a${String(event.data)}`))
  const b = start((event) => void seen.push(`b${String(event.data)}`))
  await append(1, 2)
  await clock.advance(1_000)
  expect(seen).toEqual(['a1', 'a2'])
  expect([a.state, b.state, b.position]).toEqual(['live', 'standby', 2])
  await a.stop()
  await append(3)
  await clock.advance(1_000)
  expect(seen).toEqual(['a1', 'a2', 'b3'])
})

test('reached() works on the one that stands by', async () => {
  const { start, append, clock } = open()
  start(() => {})
  await settle()
  const standby = start(() => {})
  await clock.advance(1_000)
  const position = await append(1)
  const waiting = standby.reached(position, 5_000)
  await clock.advance(1_000)
  await waiting
})

test('a dead owner is replaced when its lease runs out, and a paused one commits nothing when it wakes up', async () => {
  const { start, append, clock, checkpoints } = open()
  await append(1, 2)
  const hold = gate()
  const seen: string[] = []
  // An owner whose renewals are lost: it is cut off while its handler works.
  const cut: Checkpoints = Object.assign(Object.create(checkpoints) as Checkpoints, {
    acquire: async (name: string, owner: string, ttlMs: number) => {
      if (acquired++ > 0) throw new StoreError('cut off')
      return checkpoints.acquire(name, owner, ttlMs)
    },
    commit: checkpoints.commit.bind(checkpoints),
    release: checkpoints.release.bind(checkpoints),
    position: checkpoints.position.bind(checkpoints),
  })
  let acquired = 0
  let told: AbortSignal | undefined
  start(
    async (event, { signal }) => {
      told = signal
      if (event.data === 2) await hold.passed
      seen.push(`a${String(event.data)}`)
    },
    { leaseMs: 9_000, batch: 1 },
    cut,
  )
  await settle()
  start((event) => void seen.push(`b${String(event.data)}`), { leaseMs: 9_000 })
  await clock.advance(8_000)
  expect(seen).toEqual(['a1'])
  await clock.advance(4_000)
  expect(seen).toEqual(['a1', 'b2'])
  expect(told?.aborted).toBe(true)
  hold.open()
  await settle()
  expect(await checkpoints.position('n')).toBe(2)
})

test('a long handler keeps its lease', async () => {
  const { start, append, clock } = open()
  await append(1)
  const hold = gate()
  const seen: string[] = []
  start(() => hold.passed.then(() => void seen.push('a')), { leaseMs: 3_000 })
  await settle()
  start(() => void seen.push('b'), { leaseMs: 3_000 })
  await clock.advance(30_000)
  hold.open()
  await clock.advance(1_000)
  expect(seen).toEqual(['a'])
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

test('a log that is shorter than the checkpoint ends the subscription instead of waiting', async () => {
  const { start, checkpoints } = open()
  const lease = await checkpoints.acquire('n', 'someone', 1)
  await checkpoints.commit('n', lease?.epoch ?? 0, undefined, 99, async () => {})
  await checkpoints.release('n', lease?.epoch ?? 0)
  const subscription = start(() => {})
  const failed = new Promise((resolve) => subscription.on('failed', resolve))
  expect(await failed).toMatchObject({ error: { code: 'CORRUPT_DATA' } })
})

test('a subscription ends quietly with its store', async () => {
  const { start, store, clock } = open()
  const subscription = start(() => {})
  await settle()
  await store.close()
  await clock.advance(1_000)
  expect(subscription.state).toBe('stopped')
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

test('a mistake in the options is found at once', () => {
  const { store, checkpoints } = open()
  const bad = (options: SubscriptionOptions) => () => subscribe(store, checkpoints, 'n', () => {}, options)
  expect(bad({ batch: 0 })).toThrow(/batch/)
  expect(bad({ leaseMs: 0 })).toThrow(/leaseMs/)
  expect(bad({ pollMs: Infinity })).toThrow(/pollMs/)
  expect(bad({ from: -1 })).toThrow(/from/)
  expect(bad({ from: new Date(NaN) })).toThrow(/from/)
  expect(bad({ retry: { attempts: 0 } })).toThrow(/attempts/)
  expect(bad({ retry: null as never })).toThrow(/^retry: /)
  expect(bad({ query: { items: [null as never] } })).toThrow(/^query.items: /)
  expect(() => subscribe(store, checkpoints, '', () => {})).toThrow(/name/)
})

test('nobody waits for what is no position, or no time', async () => {
  const { store, checkpoints } = open()
  const subscription = subscribe(store, checkpoints, 'n', () => {})
  await subscription.stop()
  const refused = (option: string) => ({ code: 'INVALID_OPTION', message: expect.stringContaining(option) as string })
  for (const position of [NaN, -1, 1.5, '1' as never])
    await expect(subscription.reached(position)).rejects.toMatchObject(refused('position'))
  for (const timeoutMs of [NaN, -1, '1' as never])
    await expect(subscription.reached(1, timeoutMs)).rejects.toMatchObject(refused('timeoutMs'))
})

test('live() gives the state now, and after every change the newest', async () => {
  const { store, clock, append } = open()
  await append(1, 2)
  const sum = { initial: 0, evolve: (s: number, event: Event) => s + (event.data as number) }
  const states = live(store, 's', sum, { clock })[Symbol.asyncIterator]()
  expect((await states.next()).value).toEqual({ state: 3, version: 2 })
  const next = states.next()
  await append(3)
  expect((await next).value).toEqual({ state: 6, version: 3 })
  await append(4)
  await append(5)
  expect((await states.next()).value).toEqual({ state: 15, version: 5 })
  await states.return()
  expect(clock.pendingTimers).toBe(0)
})

test('live() of an unknown stream begins with the initial state, and ends when it is aborted', async () => {
  const { store, clock } = open()
  const controller = new AbortController()
  const states = live(store, 'x', { initial: 'none', evolve: () => 'some' }, { clock, signal: controller.signal })
  expect((await states.next()).value).toEqual({ state: 'none', version: 0 })
  const next = states.next()
  await settle()
  const reason = new Error('enough')
  controller.abort(reason)
  await expect(next).rejects.toBe(reason)
  expect(clock.pendingTimers).toBe(0)
})
