import { expect } from 'vitest'
import { MemorySagaStore, type SagaStatus, type SagaStore, type StoredSaga } from '../../src/saga/index.js'
import { fc } from '../support/prop.js'

const IDS = ['a', 'b', 'c\\#x', `long ${'ü'.repeat(800)}`]
const id = fc.nat(IDS.length - 1)
const text = fc.constantFrom('x', 'ü"\\\n', 'nul\0', '\ud800', '')
const status = fc.constantFrom<SagaStatus>('running', 'waiting', 'compensating', 'completed', 'compensated', 'parked')
const kind = fc.constantFrom('signal' as const, 'cancel' as const, 'redrive' as const)
const HASHES = ['1111111111111111', '2222222222222222']

/** Nothing in it depends on time: leases are long, and what is let go is due at once or never. */
export const sagaOperations = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ op: fc.constant('create' as const), id, hash: fc.nat(1), owned: fc.boolean(), text }),
    },
    { weight: 2, arbitrary: fc.record({ op: fc.constant('claim' as const), limit: fc.integer({ min: 1, max: 3 }) }) },
    {
      weight: 6,
      arbitrary: fc.record({
        op: fc.constant('commit' as const),
        batch: fc.array(
          fc.record({
            ...{ id, status, text },
            epoch: fc.constantFrom(0, 0, 0, 0, -1, 1),
            position: fc.constantFrom(0, 0, 0, 0, -1, 1),
            next: fc.constantFrom('keep' as const, 'keep' as const, 'now' as const, 'never' as const),
            seen: fc.boolean(),
            consumes: fc.boolean(),
          }),
          { minLength: 1, maxLength: 5 },
        ),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ op: fc.constant('deliver' as const), id, kind, text, dedupe: fc.option(text) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        op: fc.constant('move' as const),
        ...{ id, text, letGo: fc.boolean() },
        to: fc.nat(1),
        behind: fc.constantFrom(0, 0, 0, 1),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        op: fc.constant('renew' as const),
        ids: fc.array(id, { maxLength: 4 }),
        stale: fc.boolean(),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        op: fc.constant('list' as const),
        status: fc.option(status),
        limit: fc.integer({ min: 1, max: 5 }),
      }),
    },
  ),
  { maxLength: 25 },
)
type Operation = typeof sagaOperations extends fc.Arbitrary<readonly (infer O)[]> ? O : never

/** Does the same to `store` and to one in memory, which must answer alike and end alike. @param order of ids, as the store lists them */
export async function compareWithMemory(store: SagaStore, operations: readonly Operation[]): Promise<void> {
  const memory = new MemorySagaStore()
  const both = async (ask: (of: SagaStore) => Promise<unknown>): Promise<unknown> => {
    const expected = await ask(memory)
    expect(await ask(store)).toEqual(expected)
    return expected
  }
  const read = async (of: SagaStore, i: number): Promise<object | undefined> => timeless(await of.read(IDS[i]!))
  for (const operation of operations) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    await both((of) => run(of, operation))
    // oxlint-disable-next-line no-await-in-loop
    for (const i of IDS.keys()) await both((of) => read(of, i))
  }
}

async function run(store: SagaStore, operation: Operation): Promise<unknown> {
  switch (operation.op) {
    case 'create': {
      const { created, saga } = await store.create({
        id: IDS[operation.id]!,
        name: `n${operation.text}`,
        version: 1,
        hash: HASHES[operation.hash]!,
        input: JSON.stringify(operation.text),
        deadlineMs: operation.owned ? 1.5 : null,
        leaseMs: operation.owned ? 60_000 : null,
      })
      return { created, saga: timeless(saga) }
    }
    case 'claim': {
      const known = ['x', 'ü"\\\n', 'nul\0', '\ud800'].map((name) => ({
        name: `n${name}`,
        version: 1,
        hash: HASHES[0]!,
      }))
      // one after the other, for which of several is due longest is a matter of milliseconds
      const claims = await store.claim({ known, limit: IDS.length * 2, leaseMs: 60_000 })
      const byId = (a: { id: string }, b: { id: string }): number => (a.id < b.id ? -1 : 1)
      return {
        claimed: claims.claimed
          .map(({ saga, expired }) => ({ id: saga.id, expired, saga: timeless(saga) }))
          .toSorted(byId),
        drifted: claims.drifted.toSorted(byId),
      }
    }
    case 'commit': {
      const sagas = await Promise.all(operation.batch.map(({ id: i }) => store.read(IDS[i]!)))
      return store.commit(
        operation.batch.map((t, i) => {
          const saga = sagas[i]
          return {
            id: IDS[t.id]!,
            epoch: (saga?.epoch ?? 1) + t.epoch,
            position: Math.max(0, (saga?.journal.length ?? 0) + t.position),
            record: { at: 5, entries: [{ type: 'done', path: t.text, value: JSON.stringify(t.text) }] },
            status: t.status,
            consumed: t.consumes && saga ? saga.inbox.slice(0, 2).map(({ number }) => number) : [],
            seen: t.seen ? (saga?.lastMessage ?? 0) : 0,
            next: t.next === 'keep' ? { leaseMs: 60_000 } : { dueAt: t.next === 'now' ? 0 : null },
          }
        }),
      )
    }
    case 'deliver':
      return store.deliver({
        sagaId: IDS[operation.id]!,
        kind: operation.kind,
        name: operation.text,
        payload: JSON.stringify(operation.text),
        dedupeId: operation.dedupe ?? undefined,
      })
    case 'move': {
      const saga = await store.read(IDS[operation.id]!)
      const { name = 'n', createdAt = 0, epoch = 0, journal = [] } = saga ?? {}
      return store.move!({
        ...{ id: IDS[operation.id]!, createdAt, epoch, letGo: operation.letGo },
        position: Math.max(0, journal.length - operation.behind),
        to: { name, version: 1, hash: HASHES[operation.to]! },
        entries: [{ type: 'skipped', path: operation.text }],
      })
    }
    case 'renew': {
      const sagas = await Promise.all(operation.ids.map((i) => store.read(IDS[i]!)))
      const leases = operation.ids.map((i, at) => ({
        id: IDS[i]!,
        epoch: (sagas[at]?.epoch ?? 1) - Number(operation.stale),
      }))
      return store.renew(leases, 60_000)
    }
    case 'list': {
      const all = await store.list!({ status: operation.status ?? undefined, limit: IDS.length })
      return all.map(({ id: of, status: at }) => `${of} ${at}`).toSorted()
    }
  }
}

const timeless = (saga: StoredSaga | undefined): object | undefined =>
  saga && {
    ...saga,
    ...{ createdAt: undefined, updatedAt: undefined },
    // of a move it is the store's time
    journal: saga.journal.map(({ at, entries }) => ({ at: at === 5 ? at : undefined, entries })),
  }
