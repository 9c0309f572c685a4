import { describe, expect, test } from 'vitest'
import { StoreError } from '../../src/kernel/errors.js'
import {
  SagaOrchestrator,
  constant,
  saga,
  type SagaDefinition,
  type SagaStore,
  type SagaTransaction,
} from '../../src/saga/index.js'
import { lab, rest } from './lab.js'

/** A ledger whose entries count when their transaction does. */
function ledger(store: SagaStore): { store: SagaStore; entries: string[]; open: () => number } {
  const entries: string[] = []
  let open = 0
  const plain = store.transaction!
  const transaction: SagaStore['transaction'] = async (work, record) => {
    const written: string[] = []
    const tx: SagaTransaction = { query: async (text) => ({ rows: [written.push(text)], rowCount: 1 }) }
    open++
    try {
      const answer = await plain(() => work(tx), record)
      if (answer === 'ok') entries.push(...written)
      return answer
    } finally {
      open--
    }
  }
  return { store: Object.assign(store, { transaction }), entries, open: () => open }
}

function shop(...sagas: SagaDefinition[]) {
  const it = lab()
  const o = it.orchestrator(sagas, { leaseMs: 1_000, graceMs: 100 })
  return { ...it, o, ...ledger(o.line.store) }
}

const one = (name: string) => ({ run: ({ tx }: { tx: SagaTransaction }) => tx.query(name).then(() => name) })

describe('a transaction', () => {
  test('commits with the record of its end, and gives its result to later steps', async () => {
    const seen: unknown[] = []
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', { run: async ({ tx, input }) => (await tx.query(`charge ${input}`), input * 2) })
      .step('after', { run: ({ results }) => void seen.push(results.ledger) })
      .build()
    const { o, entries, store } = shop(order)
    const outcome = await (await o.run(order, 21, { id: '1' })).settled()
    expect(outcome).toMatchObject({ status: 'completed' })
    expect([entries, seen]).toEqual([['charge 21'], [42]])
    expect((await store.read('1'))?.journal).toHaveLength(2) // the end of each: the first start follows from the definition
  })

  test('leaves nothing of an attempt that failed, and fails for certain whatever was thrown', async () => {
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', {
        run: async ({ tx, attempt }) => {
          await tx.query(`attempt ${attempt}`)
          throw new StoreError('perhaps')
        },
        compensate: ({ tx }) => tx.query('undone'),
        retry: { attempts: 3, backoff: constant(10) },
      })
      .build()
    const { o, clock, entries } = shop(order)
    const handle = await o.run(order, 1, { id: '1' })
    await clock.advance(100)
    expect(await handle.settled()).toMatchObject({ status: 'compensated' })
    expect(entries).toEqual([]) // and nothing to undo
    expect((await o.get('1'))?.nodes).toMatchObject([{ path: 'ledger', status: 'failed', attempt: 3 }])
  })

  test('is undone in a transaction', async () => {
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', { ...one('charge'), compensate: ({ tx, result }) => tx.query(`refund ${result}`) })
      .step('bad', { run: () => Promise.reject(new Error('no')) })
      .build()
    const { o, entries } = shop(order)
    expect(await (await o.run(order, 1, { id: '1' })).settled()).toMatchObject({ status: 'compensated' })
    expect(entries).toEqual(['charge', 'refund charge'])
  })

  test('that takes too long is rolled back, and what its body does then no longer counts', async () => {
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', {
        run: async ({ tx }) => {
          await tx.query('early')
          await clock.sleep(5_000)
          return tx.query('late')
        },
        timeoutMs: 200,
      })
      .build()
    const { o, clock, entries, open } = shop(order)
    const handle = await o.run(order, 1, { id: '1' })
    await clock.advance(200)
    expect(await handle.settled()).toMatchObject({ status: 'compensated' })
    await clock.advance(5_000)
    expect([entries, open()]).toEqual([[], 0])
    expect((await o.get('1'))?.nodes[0]).toMatchObject({ status: 'failed' })
  })

  test.each(['deadline', 'cancel'] as const)('is stopped by a %s, and rolled back', async (stop) => {
    const aborted: unknown[] = []
    const order = saga<number>('order', { version: 1, ...(stop === 'deadline' ? { deadlineMs: 300 } : {}) })
      .transaction('ledger', {
        run: async ({ tx, signal }) => {
          await tx.query('x')
          signal.addEventListener('abort', () => aborted.push((signal.reason as Error).name))
          await new Promise(() => {})
        },
      })
      .build()
    const { o, clock, entries, open } = shop(order)
    await o.run(order, 1, { id: '1' })
    await clock.advance(250)
    if (stop === 'cancel') await o.cancel('1', 'changed my mind')
    await clock.advance(160) // a hundred of them grace
    await rest()
    expect([(await o.get('1'))?.status, entries, open(), aborted]).toEqual(['compensated', [], 0, ['AbortError']])
    await clock.advance(1_000)
    expect(clock.pendingTimers).toBe(0)
  })

  test('is undone when it ends in spite of a cancel', async () => {
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', {
        run: async ({ tx }) => {
          await clock.sleep(100)
          await tx.query('charge')
        },
        compensate: ({ tx }) => tx.query('refund'),
      })
      .step('never', { run: () => void never.push(1) })
      .build()
    const never: number[] = []
    const { o, clock, entries } = shop(order)
    await o.run(order, 1, { id: '1' })
    await clock.advance(50)
    await o.cancel('1', 'no')
    await clock.advance(100)
    expect([(await o.get('1'))?.status, entries, never]).toEqual(['compensated', ['charge', 'refund'], []])
  })

  test('of one saga goes after another, beside other branches, and none is lost', async () => {
    let most = 0
    const slow = (name: string) => ({
      run: async ({ tx }: { tx: SagaTransaction }) => {
        most = Math.max(most, open())
        await clock.sleep(100)
        await tx.query(name)
        return name
      },
    })
    const order = saga<number>('order', { version: 1 })
      .parallel('all', {
        a: (b) => b.transaction('one', slow('one')).transaction('two', slow('two')),
        b: (b) => b.transaction('three', slow('three')),
        c: (b) => b.step('plain', { run: () => clock.sleep(50) }).step('more', { run: () => 'more' }),
      })
      .build()
    const { o, clock, entries, open } = shop(order)
    const handle = await o.run(order, 1, { id: '1' })
    await clock.advance(400)
    const results = { all: { a: { one: 'one', two: 'two' }, b: { three: 'three' }, c: { more: 'more' } } }
    expect(await handle.settled()).toMatchObject({ status: 'completed', results })
    expect([entries.toSorted(), most]).toEqual([['one', 'three', 'two'], 1])
  })

  test('whose process dies has had no effect: the next owner runs it, and does not take it for unknown', async () => {
    const outcomes: string[] = []
    const order = saga<number>('order', { version: 1, deadlineMs: 1_500 })
      .transaction('ledger', {
        run: () => new Promise(() => {}),
        compensate: ({ outcome }) => void outcomes.push(outcome),
      })
      .build()
    const { clock, orchestrator } = lab()
    const first = orchestrator([order], { leaseMs: 500 })
    await first.run(order, 1, { id: '1' })
    await clock.advance(100)
    first.line.cut()
    const second = orchestrator([order], { leaseMs: 500, graceMs: 0 })
    await clock.advance(3_000)
    expect(await second.get('1')).toMatchObject({ status: 'compensated', nodes: [{ status: 'failed', attempt: 2 }] })
    expect(outcomes).toEqual([])
  })

  test('that can not begin is begun again; of which nobody knows whether it was committed, the next owner finds out', async () => {
    const order = saga<number>('order', { version: 1 }).transaction('ledger', one('charge')).build()
    for (const committed of [true, false]) {
      const { o, clock, entries, store } = shop(order)
      const { transaction } = store
      let calls = 0
      store.transaction = async (work, record) => {
        if (++calls === 1) throw new StoreError('no connection')
        if (calls > 2) return transaction!(work, record)
        if (committed) await transaction!(work, record)
        else await work({ query: async () => ({ rows: [], rowCount: 0 }) }).then(record)
        throw new StoreError('the connection broke at COMMIT')
      }
      const handle = await o.run(order, 1, { id: '1' })
      await clock.advance(3_000)
      expect(await handle.settled()).toMatchObject({ status: 'completed', results: { ledger: 'charge' } })
      expect([entries, calls]).toEqual([['charge'], committed ? 2 : 3])
    }
  })

  test('whose lease has run out is rolled back at once, and left to the next owner', async () => {
    const late: unknown[] = []
    const order = saga<number>('order', { version: 1 })
      .transaction('ledger', {
        run: async ({ tx, fence }) => {
          if (fence === 1) await clock.sleep(1_500).then(() => late.push(open()))
          return tx.query(`by ${fence}`)
        },
      })
      .build()
    const { o, clock, entries, open } = shop(order)
    o.line.store.renew = () => new Promise(() => {})
    await o.run(order, 1, { id: '1' })
    await clock.advance(5_000)
    expect([entries, late, (await o.get('1'))?.status]).toEqual([['by 2'], [0], 'completed'])
  })

  test('is refused where there are none, and in memory has no database', async () => {
    const order = saga<number>('order', { version: 1 }).transaction('ledger', one('charge')).build()
    const { store, clock, orchestrator } = lab()
    await using o = new SagaOrchestrator({ store, clock, sagas: [order] })
    o.start()
    expect(await (await o.run(order, 1, { id: '1' })).settled()).toMatchObject({
      status: 'compensated',
      failure: { error: { message: expect.stringContaining('PostgresSagaStore') as string } },
    })
    const { transaction: _, ...without } = orchestrator([]).line.store
    expect(() => new SagaOrchestrator({ store: without, sagas: [order] })).toThrow(/transactions/)
  })
})
