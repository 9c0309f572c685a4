import { expect, test, vi } from 'vitest'
import { systemClock, type Clock } from '../../src/kernel/clock.js'
import { saga, signal, MemorySagaStore, SagaOrchestrator, type SagaStore, type SagaWake } from '../../src/saga/index.js'
import { ManualClock, seededRandom } from '../../src/testing/index.js'
import { lab, line, rest } from './lab.js'

// What can come between two steps of an orchestrator: its closing, a renewal, a clock that is set, a saga that can't be read.

const order = saga<number>('order', { version: 1 })
  .step('a', { run: () => 1 })
  .build()

/** A store of which some calls wait until they are let go: the server has done them, and the answer is on its way. */
function slow(store: SagaStore, slowed: { claim?: boolean; create?: boolean; commit?: boolean }) {
  const gates: (() => void)[] = []
  const wait = async <T>(result: T, isSlow: boolean | undefined): Promise<T> => {
    if (isSlow) await new Promise<void>((resolve) => gates.push(resolve))
    return result
  }
  const own: SagaStore = {
    create: async (s) => wait(await store.create(s), slowed.create),
    claim: async (r) => wait(await store.claim(r), slowed.claim),
    commit: async (t) => wait(await store.commit(t), slowed.commit),
    transaction: async (work, record) => wait(await store.transaction!(work, record), slowed.commit),
    renew: (l, ms) => store.renew(l, ms),
    deliver: (m) => store.deliver(m),
    read: (id) => store.read(id),
    list: (q) => store.list!(q),
    onWake: (listener) => store.onWake!(listener),
  }
  return { store: own, slowed, letGo: () => gates.splice(0).forEach((open) => open()) }
}

test.each(['claim', 'create'] as const)(
  'close waits for a %s that is under way, and hands over what it brings',
  async (verb) => {
    const clock = new ManualClock()
    const memory = new MemorySagaStore({ clock })
    const { store, letGo } = slow(memory, { [verb]: true })
    const o = new SagaOrchestrator({ store, sagas: [order], clock })
    if (verb === 'claim') await new SagaOrchestrator({ store: memory, clock }).run(order, 1, { id: '1' })
    o.start()
    const begun = verb === 'create' ? o.run(order, 1, { id: '1' }) : undefined
    await rest()
    const closed = vi.fn()
    void o.close().then(closed)
    await rest()
    expect(closed).not.toHaveBeenCalled()
    letGo()
    await rest()
    await begun
    expect(closed).toHaveBeenCalled()
    expect(await memory.claim({ known: [order], limit: 1, leaseMs: 1 })).toMatchObject({
      claimed: [{ expired: false }],
    })
  },
)

test.each(['commit', 'transaction'] as const)(
  'a saga that comes back before the answer to the %s that let it go is not lost',
  async (by) => {
    const clock = new ManualClock()
    const memory = new MemorySagaStore({ clock })
    const { store, slowed, letGo } = slow(memory, { commit: true })
    const go = signal('go')
    const begin = saga('waits', { version: 1 })
    const waits = (by === 'commit' ? begin : begin.transaction('tx', { run: () => 1 })).waitFor('go', go).build()
    delete store.onWake
    const o = new SagaOrchestrator({ store, sagas: [waits], clock })
    const happened: unknown[] = []
    for (const name of ['lost', 'error', 'settled'] as const) o.on(name, ({ ...event }) => happened.push([name, event]))
    const nodes: unknown[] = []
    o.on('node', ({ path, status }) => nodes.push(`${path} ${status}`))
    o.start()
    const handle = await o.run(waits, 1, { id: '1' })
    await rest() // written: it waits, and nobody owns it
    slowed.commit = false
    await o.signal('1', go, 1) // its run still waits for the answer, and the saga is due
    await clock.advance(1_000) // claimed anew
    letGo()
    expect(await handle.settled()).toMatchObject({ status: 'completed' })
    expect(happened).toEqual([['settled', { id: '1', name: 'waits', status: 'completed' }]])
    expect(nodes).toEqual(by === 'commit' ? ['go done'] : ['tx done', 'go waiting', 'go done'])
    await o.close()
  },
)

test('what another owner of the same epoch has recorded, as a fail-over makes them, is not taken for what is being written', async () => {
  const clock = new ManualClock()
  const memory = new MemorySagaStore({ clock })
  const never = new Promise<never>(() => {})
  let forgets = true
  const { store } = slow(memory, {})
  delete store.onWake
  store.commit = async (transitions) => (forgets ? never : memory.commit(transitions))
  let runs = 0
  const counts = saga('counts', { version: 1 })
    .step('a', { run: () => ++runs })
    .build()
  const o = new SagaOrchestrator({ store, sagas: [counts], clock })
  const happened: unknown[] = []
  for (const name of ['lost', 'settled'] as const) o.on(name, ({ ...event }) => happened.push([name, event]))
  o.start()
  const handle = await o.run(counts, 1, { id: '1' })
  await rest() // the end of the saga is on its way
  forgets = false
  const record = { at: clock.epochMs(), entries: [] }
  const next = { dueAt: clock.epochMs() }
  await memory.commit([{ id: '1', epoch: 1, position: 0, record, status: 'running', consumed: [], seen: 0, next }])
  await clock.advance(1_000) // claimed anew
  expect(await handle.settled()).toMatchObject({ status: 'completed', results: { a: 2 } })
  expect(happened).toEqual([
    ['lost', { id: '1', epoch: 1 }],
    ['settled', { id: '1', name: 'counts', status: 'completed' }],
  ])
  await o.close()
})

test('close waits no longer than graceMs for a store that hangs', async () => {
  const clock = new ManualClock()
  const { store } = slow(new MemorySagaStore({ clock }), { claim: true })
  const o = new SagaOrchestrator({ store, sagas: [order], clock, graceMs: 2_000 })
  o.start()
  const closed = vi.fn()
  void o.close().then(closed)
  await clock.advance(1_999)
  expect(closed).not.toHaveBeenCalled()
  await clock.advance(1)
  expect(closed).toHaveBeenCalled()
})

test.each(Array.from({ length: 12 }, (_, gap) => gap))(
  'a message that comes %i turns after a claim has begun is taken up at once, also when that claim is just ending',
  async (gap) => {
    const { store, orchestrator } = lab()
    const go = signal('go')
    const waits = saga('waits', { version: 1 }).waitFor('go', go).build()
    const first = orchestrator([waits])
    await first.run(waits, 1, { id: '1' })
    await first.close()
    const next = orchestrator([waits])
    for (let turn = 0; turn < gap; turn++) await Promise.resolve()
    await next.signal('1', go, 1)
    await rest()
    expect(await store.read('1')).toMatchObject({ status: 'completed' })
    await next.close()
  },
)

const approved = signal('approved')
/** Waits for `approved` while a body runs that does not end. */
const both = saga<number>('both', { version: 1 })
  .parallel('both', {
    waits: (b) => b.waitFor('approved', approved),
    runs: (b) => b.step('a', { run: () => new Promise(() => {}) }),
  })
  .build()

test.each(['claim', 'create'] as const)(
  'a message that comes while the answer to a %s is on its way is taken up soon, also while a body runs',
  async (verb) => {
    const clock = new ManualClock()
    const memory = new MemorySagaStore({ clock })
    const { store, slowed, letGo } = slow(memory, {})
    const o = new SagaOrchestrator({ store, sagas: [both], clock })
    o.start()
    await rest()
    slowed[verb] = true
    const elsewhere = new SagaOrchestrator({ store: memory, clock })
    void (verb === 'claim' ? elsewhere : o).run(both, 1, { id: '1' })
    await rest() // given out
    await elsewhere.signal('1', approved, 1)
    letGo()
    await clock.advance(100)
    expect(await memory.read('1')).toMatchObject({ status: 'running', inbox: [], lastMessage: 1 })
    slowed[verb] = false
    letGo()
    void o.close()
    await clock.advance(20_000)
  },
)

test('a message that comes while a creation is answered is taken up soon, however many came for others meanwhile', async () => {
  const clock = new ManualClock()
  const memory = new MemorySagaStore({ clock })
  const { store, slowed, letGo } = slow(memory, { create: true })
  let wake: (wake: SagaWake) => void = () => {}
  store.onWake = (listener) => memory.onWake((wake = listener))
  const o = new SagaOrchestrator({ store, sagas: [both], clock })
  o.start()
  void o.run(both, 1, { id: '1' })
  await rest()
  for (let i = 0; i < 20_000; i++) wake({ id: `other ${i}`, dueInMs: 0 })
  await new SagaOrchestrator({ store: memory, clock }).signal('1', approved, 1)
  letGo()
  await clock.advance(100)
  expect(await memory.read('1')).toMatchObject({ status: 'running', inbox: [], lastMessage: 1 })
  slowed.create = false
  void o.close()
  await clock.advance(20_000)
})

test('a saga that ends soon after its claim is not asked about, though something came for it meanwhile', async () => {
  const clock = new ManualClock()
  const memory = new MemorySagaStore({ clock })
  const renew = vi.spyOn(memory, 'renew')
  const { store, letGo } = slow(memory, { claim: true })
  const elsewhere = new SagaOrchestrator({ store: memory, clock })
  await elsewhere.run(order, 1, { id: '1' })
  const o = new SagaOrchestrator({ store, sagas: [order], clock })
  o.start()
  await elsewhere.signal('1', signal('go'), 1)
  letGo()
  await clock.advance(1_000)
  expect((await memory.read('1'))?.status).toBe('completed')
  expect(renew).not.toHaveBeenCalled()
})

test('a saga whose claim is answered late is renewed before its lease ends, whatever else runs', async () => {
  const clock = new ManualClock()
  const memory = new MemorySagaStore({ clock })
  const { store, slowed, letGo } = slow(memory, {})
  const fences: number[] = []
  const long = saga<number>('long', { version: 1 })
    .step('a', { run: ({ fence, input }) => new Promise(() => input === 2 && fences.push(fence)) })
    .build()
  const [first, second] = [store, memory].map((own) => new SagaOrchestrator({ store: own, sagas: [long], clock }))
  first!.start()
  await first!.run(long, 1, { id: '1' })
  await clock.advance(2_500)
  slowed.claim = true
  await new SagaOrchestrator({ store: memory, clock }).run(long, 2, { id: '2' })
  await clock.advance(9_000) // of a lease of 10_000
  second!.start()
  letGo()
  await clock.advance(1_500)
  expect(fences).toEqual([1])
  await rest()
  for (const o of [first!, second!]) void o.close()
  await clock.advance(20_000)
})

test('a renewal that is answered before the write that lets a saga go takes nothing from its end', async () => {
  const clock = new ManualClock()
  const memory = new MemorySagaStore({ clock })
  const slowly = slow(memory, {})
  const long = saga<number>('long', { version: 1 })
    .step('a', { run: () => clock.sleep(4_000) })
    .build()
  const o = new SagaOrchestrator({ store: slowly.store, sagas: [long], clock })
  o.start()
  const [settled, lost] = [vi.fn(), vi.fn()]
  o.on('settled', settled)
  o.on('lost', lost)
  await o.run(long, 1, { id: '1' })
  await clock.advance(3_900)
  slowly.slowed.commit = true // stored, and its answer late
  await clock.advance(5_000)
  expect(await memory.read('1')).toMatchObject({ status: 'completed' })
  slowly.letGo()
  await rest()
  expect(settled).toHaveBeenCalledOnce()
  expect(lost).not.toHaveBeenCalled()
})

test('a body that may have run counts as unknown also when the clock of the store was set back meanwhile', async () => {
  const clock = new ManualClock()
  let setBackMs = 0
  const epochMs = (): number => clock.epochMs() - setBackMs
  const server: Clock = { ...systemClock, now: () => clock.now() - setBackMs, epochMs }
  const store = new MemorySagaStore({ clock: server })
  const undone: string[] = []
  const one = saga<number>('one', { version: 1 })
    .step('a', { run: () => clock.sleep(10) })
    .step('b', { run: () => new Promise(() => {}), compensate: ({ outcome }) => void undone.push(outcome) })
    .build()
  const first = line(store)
  const dies = new SagaOrchestrator({ store: first.store, sagas: [one], clock })
  dies.start()
  await dies.run(one, 1, { id: '1' })
  setBackMs = 3_600_000
  await clock.advance(10) // b begins, at a time that is yet to come
  first.cut()
  await clock.advance(10_000)
  const next = new SagaOrchestrator({ store, sagas: [one], clock })
  await next.cancel('1', 'no')
  next.start()
  await rest()
  expect(await next.get('1')).toMatchObject({ status: 'compensated' })
  expect(undone).toEqual(['unknown'])
})

test('sagas in memory do not notice when the wall clock is set', async () => {
  const { clock, store, orchestrator } = lab()
  let runs = 0
  const one = saga<number>('one', { version: 1 })
    .step('a', { run: () => (runs++, clock.sleep(1_000)) })
    .sleep('night', 60_000)
    .build()
  const o = orchestrator([one])
  await o.run(one, 1, { id: '1' })
  clock.jumpEpoch(3_600_000)
  await new SagaOrchestrator({ store, clock }).run(one, 1, { id: '2' }) // so that it looks what is due
  await clock.advance(1_000)
  expect(runs).toBe(2)
  clock.jumpEpoch(-7_200_000)
  await clock.advance(60_000)
  expect(await o.get('1')).toMatchObject({ status: 'completed' })
})

test('a saga that can not be read holds up no other, and is told of', async () => {
  const { clock, store } = lab()
  const outside = new SagaOrchestrator({ store, clock })
  for (const id of ['1', 'broken', '2']) await outside.run(order, 1, { id })
  const broken: SagaStore = {
    ...line(store).store,
    claim: async (request) => {
      const { claimed, ...more } = await store.claim(request)
      const read = claimed.map(({ saga: one, expired }) => ({
        saga: one.id === 'broken' ? { ...one, journal: [{ at: 1 } as never] } : one,
        expired,
      }))
      return { claimed: read, ...more }
    },
  }
  const worker = new SagaOrchestrator({ store: broken, sagas: [order], clock })
  const failed = vi.fn()
  worker.on('error', failed)
  worker.start()
  await rest()
  expect((await store.list({ status: 'completed', limit: 9 })).map(({ id }) => id)).toEqual(['1', '2'])
  expect(failed).toHaveBeenCalledExactlyOnceWith({ doing: 'read', error: expect.any(Error) as Error })
})

test('a cancel that comes while a transaction waits for its connection is told to the body when it begins', async () => {
  const { store, clock } = lab()
  const { store: own } = line(store)
  let connected!: () => void
  const connection = new Promise<void>((resolve) => (connected = resolve))
  const pay = saga<number>('pay', { version: 1 })
    .transaction('ledger', { run: async ({ signal: stop }) => (await rest(), void seen.push(stop.aborted)) })
    .build()
  const seen: boolean[] = []
  const waiting: SagaStore = { ...own, transaction: async (...args) => (await connection, own.transaction!(...args)) }
  const o = new SagaOrchestrator({ store: waiting, sagas: [pay], clock, random: seededRandom(1) })
  o.start()
  await o.run(pay, 1, { id: '1' })
  await o.cancel('1', 'no')
  await rest()
  connected()
  await expect.poll(() => seen).toEqual([true])
})

test('of a store that hangs no lease is believed in for longer than it lasts; when it answers again all go on', async () => {
  const clock = new ManualClock()
  const memory = new MemorySagaStore({ clock })
  let hangs = false
  const waiting: (() => void)[] = []
  const answer = async <T>(call: () => Promise<T>): Promise<T> => {
    if (hangs) await new Promise<void>((go) => waiting.push(go))
    return call()
  }
  const store: SagaStore = {
    ...line(memory).store,
    claim: (r) => answer(() => memory.claim(r)),
    commit: (t) => answer(() => memory.commit(t)),
    renew: (l, ms) => answer(() => memory.renew(l, ms)),
    read: (id) => answer(() => memory.read(id)),
  }
  const aborted: boolean[] = []
  const long = saga<number>('long', { version: 1 })
    .step('a', { run: ({ input }) => clock.sleep(input === 1 ? 5_000 : 0) })
    .step('b', {
      run: async ({ signal: stop }) => {
        await clock.sleep(20_000)
        aborted.push(stop.aborted)
      },
    })
    .build()
  const o = new SagaOrchestrator({ store, sagas: [long], clock, random: seededRandom(1) })
  o.start()
  await Promise.all([o.run(long, 1, { id: '1' }), o.run(long, 2, { id: '2' })])
  await clock.advance(0)
  hangs = true // one is about to write, the other in a body
  await clock.advance(19_000)
  expect(aborted).toEqual([])
  await clock.advance(1_000)
  expect(aborted).toEqual([true])
  hangs = false
  for (const go of waiting.splice(0)) go()
  await clock.advance(60_000)
  const sagas = await memory.list({ limit: 9 })
  expect(sagas.map(({ status }) => status)).toEqual(['completed', 'completed'])
})
