import { expect } from 'vitest'
import type { DefinitionKey, NewSaga, SagaMove, SagaStore, StoredSaga, Transition } from '../../src/saga/index.js'

/** What the laws of the contract are made of. */
export interface MoveLab {
  readonly known: readonly DefinitionKey[]
  readonly leaseMs: number
  law(name: string, check: (harness: { store: SagaStore; advance(ms: number): Promise<void> }) => Promise<void>): void
  newSaga(id: string, more?: Partial<NewSaga>): NewSaga
  transition(saga: StoredSaga, more?: Partial<Transition>): Transition
}

const newer = { name: 'order', version: 2, hash: 'fedcba9876543210' }

const moveOf = ({ id, createdAt, epoch, journal }: StoredSaga, more: Partial<SagaMove> = {}): SagaMove => ({
  ...{ id, createdAt, epoch, position: journal.length, to: newer, letGo: false },
  entries: [{ type: 'skipped', path: 'ü"\\\n' }],
  ...more,
})

/** The laws of `SagaStore.move`. */
export function moveLaws({ law, known, leaseMs, newSaga, transition }: MoveLab): void {
  const claimNewer = async (store: SagaStore): Promise<{ saga: StoredSaga; expired: boolean } | undefined> =>
    (await store.claim({ known: [newer], limit: 10, leaseMs })).claimed[0]

  law(
    'a saga that is moved has the new definition and its record, and is due for those who know it',
    async ({ store }) => {
      const { saga } = await store.create(newSaga('a', { leaseMs }))
      await store.commit([transition(saga, { status: 'waiting', next: { dueAt: null } })])
      const before = (await store.read('a'))!
      expect(await store.move!(moveOf(before))).toBe('ok')
      const after = (await store.read('a'))!
      const entries = [{ type: 'skipped', path: 'ü"\\\n' }]
      expect(after).toEqual({
        ...before,
        ...newer,
        epoch: before.epoch + 1,
        journal: [...before.journal, { at: after.updatedAt, entries }],
        updatedAt: after.updatedAt,
      })
      expect(after.updatedAt).toBeGreaterThanOrEqual(before.updatedAt)
      expect(await store.claim({ known, limit: 10, leaseMs })).toMatchObject({ claimed: [], drifted: [] })
      expect(await claimNewer(store)).toMatchObject({ saga: { id: 'a', epoch: after.epoch + 1 }, expired: false })
    },
  )

  law('a saga that somebody owns is not moved', async ({ store }) => {
    const { saga } = await store.create(newSaga('a', { leaseMs: 60_000 }))
    expect(await store.move!(moveOf(saga))).toBe('owned')
    expect(await store.read('a')).toEqual(saga)
    expect(await store.commit([transition(saga)])).toEqual(['ok'])
  })

  law(
    'of a saga that is moved after its lease, the old owner writes nothing more, and the next one knows',
    async ({ store, advance }) => {
      const { saga } = await store.create(newSaga('a', { leaseMs }))
      await advance(leaseMs + 50)
      expect(await store.move!(moveOf(saga, { letGo: true }))).toBe('expired')
      expect(await store.read('a')).toEqual(saga)
      expect(await store.move!(moveOf(saga))).toBe('ok')
      expect(await store.commit([transition(saga), transition(saga, { position: 1 })])).toEqual(['fenced', 'fenced'])
      expect(await store.renew([saga], leaseMs)).toEqual(['fenced'])
      expect(await claimNewer(store)).toMatchObject({ saga: { epoch: 3 }, expired: true })
    },
  )

  law('a saga that has gone on since it was read, or is another one or none, is not moved', async ({ store }) => {
    const { saga } = await store.create(newSaga('a'))
    expect(await store.move!(moveOf(saga, { createdAt: saga.createdAt - 1 }))).toBe('fenced')
    expect(await store.move!(moveOf(saga, { id: 'b' }))).toBe('fenced')
    const { claimed } = await store.claim({ known, limit: 1, leaseMs })
    await store.commit([transition(claimed[0]!.saga, { next: { dueAt: null } })])
    const now = (await store.read('a'))!
    expect(await store.move!(moveOf(saga))).toBe('fenced')
    expect(await store.move!(moveOf(now, { position: 0 }))).toBe('fenced')
    expect(await store.move!(moveOf(now, { epoch: now.epoch - 1 }))).toBe('fenced')
    expect(await store.read('a')).toEqual(now)
  })

  law(
    'the same move again is ok and changes nothing, also when the saga has gone on; another one is fenced',
    async ({ store }) => {
      const { saga } = await store.create(newSaga('a'))
      const move = moveOf(saga)
      expect(await store.move!(move)).toBe('ok')
      expect(await store.move!(move)).toBe('ok')
      const { claimed } = await store.claim({ known: [newer], limit: 1, leaseMs })
      expect(claimed[0]!.saga.journal).toHaveLength(1)
      await store.commit([transition(claimed[0]!.saga)])
      const before = await store.read('a')
      expect(await store.move!(move)).toBe('ok')
      expect(await store.move!({ ...move, entries: [{ type: 'skipped', path: 'b' }] })).toBe('fenced')
      expect(await store.read('a')).toEqual(before)
    },
  )

  law('of movers and claimers at the same time one gets a saga', async ({ store }) => {
    const { saga } = await store.create(newSaga('a'))
    const claims = Array.from({ length: 5 }, () => store.claim({ known, limit: 1, leaseMs: 60_000 }))
    const moves = Array.from({ length: 5 }, (_, i) =>
      store.move!(moveOf(saga, { entries: [{ type: 'skipped', path: `${i}` }] })),
    )
    const claimed = (await Promise.all(claims)).flatMap((c) => c.claimed)
    const moved = (await Promise.all(moves)).filter((answer) => answer === 'ok')
    expect(claimed.length + moved.length).toBe(1)
    expect((await store.read('a'))!).toMatchObject({ epoch: 1, version: moved.length + 1 })
  })

  law('messages of a saga that is moved stay', async ({ store }) => {
    const { saga } = await store.create(newSaga('a'))
    await store.deliver({ sagaId: 'a', kind: 'signal', name: 's', payload: '1', dedupeId: 'd' })
    await store.move!(moveOf(saga))
    expect(await claimNewer(store)).toMatchObject({ saga: { inbox: [{ name: 's', number: 1 }], lastMessage: 1 } })
    expect(await store.deliver({ sagaId: 'a', kind: 'signal', name: 's', payload: '1', dedupeId: 'd' })).toBe(
      'duplicate',
    )
  })
}
