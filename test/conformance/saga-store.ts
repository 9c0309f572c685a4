import { expect } from 'vitest'
import type { NewSaga, SagaQuery, SagaStore, SagaWake, StoredSaga, Transition } from '../../src/saga/index.js'
import { lawsFor } from './laws.js'
import { moveLaws } from './saga-store-moves.js'

/** `advance` lets `ms` pass: moves a fake clock, or really waits where the store has its own. */
export interface SagaStoreHarness {
  readonly store: SagaStore
  advance(ms: number): Promise<void>
  close(): Promise<void>
}

const HASH = '0123456789abcdef'
const known = [{ name: 'order', version: 1, hash: HASH }]
const LEASE_MS = 200

const newSaga = (id: string, more: Partial<NewSaga> = {}): NewSaga => ({
  ...{ id, name: 'order', version: 1, hash: HASH, input: '{"n":1}', deadlineMs: null, leaseMs: null },
  ...more,
})

const transition = (saga: StoredSaga, more: Partial<Transition> = {}): Transition => ({
  id: saga.id,
  epoch: saga.epoch,
  position: saga.journal.length,
  record: { at: 1, entries: [{ type: 'started', path: 'a' }] },
  status: 'running',
  consumed: [],
  seen: saga.lastMessage,
  next: { leaseMs: LEASE_MS },
  ...more,
})

/** @param gaps law → why this adapter can't keep it; such a test must fail. */
export function sagaStoreContract(
  adapter: string,
  open: () => Promise<SagaStoreHarness>,
  gaps: Record<string, string> = {},
): void {
  const law = lawsFor(adapter, open, gaps)
  const claimOne = async (store: SagaStore): Promise<{ saga: StoredSaga; expired: boolean } | undefined> =>
    (await store.claim({ known, limit: 10, leaseMs: LEASE_MS })).claimed[0]
  const signal = (sagaId: string, name = 's', dedupeId?: string): Parameters<SagaStore['deliver']>[0] => ({
    ...{ sagaId, kind: 'signal' as const, name, payload: '1', dedupeId },
  })

  moveLaws({ law, known, leaseMs: LEASE_MS, newSaga, transition })

  law('of callers at the same time exactly one creates a saga, and all see the same', async ({ store }) => {
    const all = await Promise.all(Array.from({ length: 20 }, (_, i) => store.create(newSaga('a', { input: `${i}` }))))
    expect(all.filter((c) => c.created)).toHaveLength(1)
    expect(new Set(all.map((c) => c.saga.input)).size).toBe(1)
  })

  law('a saga created without an owner is due at once, with nothing that may have run', async ({ store }) => {
    const { saga, now } = await store.create(newSaga('a', { deadlineMs: 5_000 }))
    expect(saga).toMatchObject({
      epoch: 0,
      status: 'running',
      journal: [],
      inbox: [],
      lastMessage: 0,
      deadlineMs: 5_000,
    })
    expect(saga.createdAt).toBe(now)
    expect(await claimOne(store)).toMatchObject({ saga: { id: 'a', epoch: 1, input: '{"n":1}' }, expired: false })
    expect(await claimOne(store)).toBeUndefined()
  })

  law('a saga created with a lease has its maker as owner until the lease ends', async ({ store, advance }) => {
    const { saga } = await store.create(newSaga('a', { leaseMs: LEASE_MS }))
    expect(saga.epoch).toBe(1)
    expect(await claimOne(store)).toBeUndefined()
    await advance(LEASE_MS + 50)
    expect(await claimOne(store)).toMatchObject({ saga: { epoch: 2 }, expired: true })
  })

  law('claims at the same time never give a saga twice', async ({ store }) => {
    for (let i = 0; i < 20; i++) await store.create(newSaga(`s${i}`))
    const all = await Promise.all(Array.from({ length: 8 }, () => store.claim({ known, limit: 5, leaseMs: 60_000 })))
    const ids = all.flatMap((c) => c.claimed.map(({ saga }) => saga.id))
    expect(new Set(ids).size).toBe(ids.length)
    const rest = await store.claim({ known, limit: 100, leaseMs: 60_000 })
    expect(ids.length + rest.claimed.length).toBe(20)
  })

  law('a claim takes at most its limit, and says that there is more', async ({ store }) => {
    for (const id of ['a', 'b', 'c']) await store.create(newSaga(id))
    const { claimed, nextDueMs } = await store.claim({ known, limit: 2, leaseMs: 60_000 })
    expect(claimed).toHaveLength(2)
    expect(nextDueMs).toBe(0)
  })

  law(
    'an unknown name, version or structure is left untouched; only a changed structure is reported',
    async ({ store }) => {
      await store.create(newSaga('other', { name: 'else' }))
      await store.create(newSaga('newer', { version: 2 }))
      await store.create(newSaga('drifted', { hash: 'ffffffffffffffff' }))
      const { claimed, drifted } = await store.claim({ known, limit: 10, leaseMs: 60_000 })
      expect(claimed).toEqual([])
      expect(drifted).toEqual([{ id: 'drifted', name: 'order', version: 1 }])
      for (const id of ['other', 'newer', 'drifted']) expect((await store.read(id))?.epoch).toBe(0)
    },
  )

  law('a commit under an older epoch is fenced and changes nothing', async ({ store, advance }) => {
    const { saga: mine } = await store.create(newSaga('a', { leaseMs: LEASE_MS }))
    await advance(LEASE_MS + 50)
    await claimOne(store)
    const before = await store.read('a')
    expect(await store.commit([transition(mine)])).toEqual(['fenced'])
    expect(await store.renew([mine], LEASE_MS)).toEqual(['fenced'])
    expect(await store.read('a')).toEqual(before)
  })

  law('of one batch each transition stands on its own', async ({ store }) => {
    const { saga: a } = await store.create(newSaga('a', { leaseMs: 60_000 }))
    const { saga: b } = await store.create(newSaga('b', { leaseMs: 60_000 }))
    const batch = [transition(a), { ...transition(b), epoch: 7 }, { ...transition(a), id: 'nobody' }]
    expect(await store.commit(batch)).toEqual(['ok', 'fenced', 'fenced'])
    expect((await store.read('a'))?.journal).toHaveLength(1)
    expect((await store.read('b'))?.journal).toHaveLength(0)
  })

  law('a commit that is sent again is ok and written once', async ({ store }) => {
    const { saga } = await store.create(newSaga('a', { leaseMs: 60_000 }))
    const once = transition(saga)
    expect(await store.commit([once])).toEqual(['ok'])
    expect(await store.commit([once])).toEqual(['ok'])
    expect((await store.read('a'))?.journal).toEqual([once.record])
    const last = transition(saga, { position: 1, status: 'completed', next: { dueAt: null } })
    expect(await store.commit([last])).toEqual(['ok'])
    expect(await store.commit([last])).toEqual(['ok'])
    expect((await store.read('a'))?.journal).toHaveLength(2)
  })

  law(
    'of two records for one place of the journal, under one epoch, the first stands and the other is fenced',
    async ({ store }) => {
      const { saga } = await store.create(newSaga('a', { leaseMs: 60_000 }))
      const [first, second] = [1, 2].map((at) => transition(saga, { record: { at, entries: [] } })) as [
        Transition,
        Transition,
      ]
      expect(await store.commit([first])).toEqual(['ok'])
      expect(await store.commit([second])).toEqual(['fenced'])
      expect(await store.commit([first])).toEqual(['ok'])
      expect((await store.read('a'))?.journal).toEqual([first.record])
    },
  )

  law('a commit extends the lease', async ({ store, advance }) => {
    const { saga } = await store.create(newSaga('a', { leaseMs: LEASE_MS }))
    await advance(LEASE_MS / 2)
    await store.commit([transition(saga, { next: { leaseMs: 60_000 } })])
    await advance(LEASE_MS)
    expect(await claimOne(store)).toBeUndefined()
  })

  law('a renewal extends the lease and tells of messages', async ({ store, advance }) => {
    const { saga } = await store.create(newSaga('a', { leaseMs: LEASE_MS }))
    await store.deliver(signal('a'))
    expect(await store.renew([saga, { id: 'nobody', epoch: 1 }], 60_000)).toEqual([{ lastMessage: 1 }, 'fenced'])
    await advance(LEASE_MS * 2)
    expect(await claimOne(store)).toBeUndefined()
  })

  law('a saga that is let go is due at its time, and nothing of it may have run', async ({ store, advance }) => {
    const { saga, now } = await store.create(newSaga('a', { leaseMs: LEASE_MS }))
    await store.commit([transition(saga, { next: { dueAt: now + 700 } })])
    expect(await store.commit([transition(saga, { position: 1 })])).toEqual(['fenced'])
    expect(await store.renew([saga], 60_000)).toEqual(['fenced'])
    expect(await claimOne(store)).toBeUndefined()
    await advance(750)
    expect(await claimOne(store)).toMatchObject({ saga: { id: 'a', epoch: 2 }, expired: false })
  })

  law('a saga let go without a time is due when a message comes', async ({ store, advance }) => {
    const { saga } = await store.create(newSaga('a', { leaseMs: LEASE_MS }))
    await store.commit([transition(saga, { status: 'waiting', next: { dueAt: null } })])
    await advance(LEASE_MS * 2)
    expect(await claimOne(store)).toBeUndefined()
    expect(await store.deliver(signal('a', 'go'))).toBe('delivered')
    expect(await claimOne(store)).toMatchObject({ saga: { inbox: [{ number: 1, name: 'go', payload: '1' }] } })
  })

  law('a saga let go with a message its owner had not seen is due at once', async ({ store }) => {
    const { saga } = await store.create(newSaga('a', { leaseMs: 60_000 }))
    await store.deliver(signal('a'))
    await store.commit([transition(saga, { status: 'waiting', next: { dueAt: null } })])
    expect(await claimOne(store)).toBeDefined()
  })

  law('a message its owner has seen and left does not make a saga due', async ({ store }) => {
    const { saga } = await store.create(newSaga('a', { leaseMs: 60_000 }))
    await store.deliver(signal('a'))
    await store.commit([transition(saga, { status: 'waiting', seen: 1, next: { dueAt: null } })])
    expect(await claimOne(store)).toBeUndefined()
    expect((await store.read('a'))?.inbox).toHaveLength(1)
  })

  law('messages keep their order, duplicates are dropped, consumed ones are gone for good', async ({ store }) => {
    const { saga } = await store.create(newSaga('a', { leaseMs: 60_000 }))
    expect(await store.deliver(signal('a', 'x', 'd1'))).toBe('delivered')
    expect(await store.deliver(signal('a', 'y'))).toBe('delivered')
    expect(await store.deliver(signal('a', 'z', 'd1'))).toBe('duplicate')
    expect((await store.read('a'))?.inbox.map((m) => [m.number, m.name])).toEqual([
      [1, 'x'],
      [2, 'y'],
    ])
    await store.commit([transition(saga, { consumed: [1], seen: 2 })])
    expect((await store.read('a'))?.inbox.map((m) => m.name)).toEqual(['y'])
    expect(await store.deliver(signal('a', 'x', 'd1'))).toBe('duplicate')
    expect((await store.read('a'))?.lastMessage).toBe(2)
  })

  law('deduplication is per saga', async ({ store }) => {
    await store.create(newSaga('a'))
    await store.create(newSaga('b'))
    expect(await store.deliver(signal('a', 'x', 'd'))).toBe('delivered')
    expect(await store.deliver(signal('b', 'x', 'd'))).toBe('delivered')
  })

  law('a message to nobody or to an ended saga is refused; a compensated one takes a redrive', async ({ store }) => {
    expect(await store.deliver(signal('a'))).toBe('unknown')
    for (const status of ['completed', 'compensated'] as const) {
      const { saga } = await store.create(newSaga(status, { leaseMs: 60_000 }))
      await store.commit([transition(saga, { status, next: { dueAt: null } })])
      expect(await store.deliver(signal(status))).toBe('finished')
    }
    const redrive = { kind: 'redrive', name: 'a', payload: '{}' } as const
    expect(await store.deliver({ sagaId: 'completed', ...redrive })).toBe('finished')
    expect(await store.deliver({ sagaId: 'compensated', ...redrive })).toBe('delivered')
    expect((await claimOne(store))?.saga.id).toBe('compensated')
  })

  law('what was written is read back as it was, whatever the names', async ({ store }) => {
    for (const id of ['__proto__', 'a/b~*%:{}', 'ü🎉\n', 'x'.repeat(5_000)]) {
      const { saga } = await store.create(newSaga(id, { leaseMs: 60_000, input: JSON.stringify({ id }) }))
      const done = { type: 'done', path: id, value: JSON.stringify(id), emitted: [] } as const
      await store.commit([transition(saga, { record: { at: 12, entries: [done] } })])
      const read = await store.read(id)
      expect(read).toMatchObject({ id, input: JSON.stringify({ id }), hash: HASH, name: 'order', version: 1 })
      expect(read?.journal).toEqual([{ at: 12, entries: [done] }])
    }
    expect(await store.read('nobody')).toBeUndefined()
  })

  law('a saga that was read does not change when the store does', async ({ store }) => {
    const { saga } = await store.create(newSaga('a', { leaseMs: 60_000 }))
    const read = await store.read('a')
    await store.deliver(signal('a'))
    await store.commit([transition(saga)])
    expect(read).toMatchObject({ journal: [], inbox: [] })
  })

  law('lists go by id, in pages, by status, name and time without progress', async ({ store, advance }) => {
    for (const id of ['c', 'a', 'B', 'ä']) await store.create(newSaga(id, id === 'a' ? { name: 'else' } : {}))
    const ids = async (query: Partial<SagaQuery>): Promise<string[]> =>
      (await store.list!({ limit: 100, ...query })).map((s) => s.id)
    expect(await ids({})).toEqual(['B', 'a', 'c', 'ä'])
    expect(await ids({ limit: 2 })).toEqual(['B', 'a'])
    expect(await ids({ limit: 2, after: 'a' })).toEqual(['c', 'ä'])
    expect(await ids({ name: 'else' })).toEqual(['a'])
    const { claimed } = await store.claim({ known, limit: 1, leaseMs: 60_000 })
    await advance(600)
    const { saga } = claimed[0]!
    await store.commit([transition(saga, { status: 'parked', next: { dueAt: null } })])
    expect(await ids({ status: 'parked' })).toEqual([saga.id])
    const { now, saga: old } = await store.create(newSaga(saga.id === 'ä' ? 'c' : 'ä'))
    const stuck = await ids({ stuckForMs: now - old.createdAt - 100 }) // as long as the others, whatever the delays
    expect(stuck).not.toContain(saga.id)
    expect(stuck).toHaveLength(3)
  })

  law('a transaction writes what its record says, or nothing', async ({ store }) => {
    if (!store.transaction) return
    const { saga } = await store.create(newSaga('a', { leaseMs: 60_000 }))
    const order: string[] = []
    const work = async (): Promise<void> => void order.push('work')
    const record = (): Transition => (order.push('record'), transition(saga, { next: { leaseMs: 60_000 } }))
    expect(await store.transaction(work, record)).toBe('ok')
    expect(order).toEqual(['work', 'record'])
    expect((await store.read('a'))?.journal).toHaveLength(1)
    expect(await store.transaction(work, () => undefined)).toBe('fenced')
    const failed = new Error('no')
    await expect(store.transaction(() => Promise.reject(failed), record)).rejects.toBe(failed)
    expect(order).toEqual(['work', 'record', 'work'])
    expect((await store.read('a'))?.journal).toHaveLength(1)
    const before = await store.read('a')
    await store.claim({ known, limit: 1, leaseMs: LEASE_MS }) // nobody may have it
    expect(await store.transaction(work, () => transition(before!, { epoch: saga.epoch + 1 }))).toBe('fenced')
  })

  law('a transaction whose saga was taken over is fenced', async ({ store, advance }) => {
    if (!store.transaction) return
    const { saga } = await store.create(newSaga('a', { leaseMs: LEASE_MS }))
    await advance(LEASE_MS + 50)
    expect(await claimOne(store)).toBeDefined()
    expect(
      await store.transaction(
        async () => {},
        () => transition(saga),
      ),
    ).toBe('fenced')
    expect((await store.read('a'))?.journal).toEqual([])
  })

  law('tells of sagas that are created, get a message, are let go and end', async ({ store, advance }) => {
    if (!store.onWake) return
    const wakes: SagaWake[] = []
    const stop = store.onWake((wake) => wakes.push(wake))
    const last = async (): Promise<SagaWake | undefined> => {
      await advance(100)
      return wakes.findLast((wake) => wake.id !== undefined) // a store may say at any time that it has missed something
    }
    const { saga, now } = await store.create(newSaga('a', { leaseMs: 60_000 }))
    expect((await last())?.id).toBe('a')
    await store.deliver(signal('a'))
    expect(await last()).toEqual({ id: 'a', dueInMs: 0 })
    await store.commit([transition(saga, { status: 'waiting', seen: 1, next: { dueAt: now + 10_000 } })])
    expect((await last())?.dueInMs).toBeGreaterThan(5_000)
    const { saga: b } = await store.create(newSaga('b', { leaseMs: 60_000 }))
    await store.commit([transition(b, { status: 'completed', next: { dueAt: null } })])
    expect(await last()).toEqual({ id: 'b', dueInMs: Infinity })
    stop()
    const count = wakes.length
    await store.create(newSaga('c'))
    await last()
    expect(wakes).toHaveLength(count)
  })
}
