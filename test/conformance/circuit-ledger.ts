import { expect } from 'vitest'
import type { CircuitLedger, SharedCircuit, TrialResult } from '../../src/resilience/store.js'
import { lawsFor } from './laws.js'

/** A ledger under test. `advance` lets `ms` pass: moves a fake clock, or really waits where the store has its own. */
export interface CircuitLedgerHarness {
  readonly ledger: CircuitLedger
  advance(ms: number): Promise<void>
  close(): Promise<void>
}

const rules = { trials: 1, failuresToOpen: 1, slowToOpen: Infinity, maxMs: 60_000, waitMs: undefined }
const LONG = 60_000
const names = ['', 'a', '__proto__', 'a:b*[c]?', '{', '}', '{a}b', 'ключ 😀', 'x'.repeat(10_000)]

/** One law for each sentence of {@link CircuitLedger}. */
export function circuitLedgerContract(adapter: string, open: () => Promise<CircuitLedgerHarness>): void {
  const law = lawsFor(adapter, open)

  const opened = (ledger: CircuitLedger, openMs: number, name = 'c', generation = 0): Promise<SharedCircuit> =>
    ledger.vote(name, { node: 'n', generation, openMs, quorum: 1 })
  const result = (id: string, generation: number, more: Partial<TrialResult> = {}) => ({
    id,
    generation,
    failed: false,
    slow: false,
    rules,
    openMs: LONG,
    ...more,
  })
  /** A fleet that is half-open, with lease `a` held. */
  async function trying({ ledger, advance }: CircuitLedgerHarness, trials = 1, leaseMs = LONG): Promise<SharedCircuit> {
    const { generation } = await opened(ledger, 20)
    await advance(21)
    return ledger.acquire('c', { id: 'a', generation, trials, leaseMs })
  }

  law('an unknown fleet is closed, and looking at it changes nothing', async ({ ledger }) => {
    const unknown = { generation: 0, state: 'closed', openForMs: 0, openings: 0, granted: false, leasedForMs: 0 }
    expect(await ledger.view('c')).toEqual(unknown)
    expect(await ledger.view('c')).toEqual(unknown)
  })

  law('a fleet opens for as long as the vote says, and under a new generation', async ({ ledger }) => {
    const shared = await opened(ledger, LONG)
    expect(shared).toMatchObject({ state: 'open', openings: 1 })
    expect(shared.generation).toBeGreaterThan(0)
    expect(shared.openForMs).toBeGreaterThan(LONG - 5_000)
    expect(shared.openForMs).toBeLessThanOrEqual(LONG)
    expect(await ledger.view('c')).toMatchObject({ state: 'open', generation: shared.generation })
  })

  law('it opens when the quorum of nodes votes at once, and one node has one vote', async ({ ledger }) => {
    const vote = (node: string) => ledger.vote('c', { node, generation: 0, openMs: LONG, quorum: 3 })
    expect((await vote('a')).state).toBe('closed')
    expect((await vote('a')).state).toBe('closed')
    expect((await vote('b')).state).toBe('closed')
    expect((await vote('b')).state).toBe('closed')
    expect((await vote('c')).state).toBe('open')
  })

  law('a vote ends with the open time that it stands for', async ({ ledger, advance }) => {
    await ledger.vote('c', { node: 'a', generation: 0, openMs: 20, quorum: 2 })
    await advance(25)
    expect((await ledger.vote('c', { node: 'b', generation: 0, openMs: LONG, quorum: 2 })).state).toBe('closed')
  })

  law('a change that is based on another generation is not made', async (harness) => {
    const { ledger } = harness
    const { generation } = await opened(ledger, LONG)
    expect((await ledger.close('c', generation - 1)).state).toBe('open')
    expect((await ledger.acquire('c', { id: 'a', generation: 0, trials: 1, leaseMs: LONG })).granted).toBe(false)
    const closed = await ledger.close('c', generation)
    expect(closed).toMatchObject({ state: 'closed', openings: 0 })
    expect(closed.generation).toBeGreaterThan(generation)
    expect((await opened(ledger, LONG, 'c', generation)).state).toBe('closed')
    expect((await opened(ledger, LONG, 'c', closed.generation)).state).toBe('open')
  })

  law('no lease is given while the open time lasts', async ({ ledger }) => {
    const { generation } = await opened(ledger, LONG)
    const asked = await ledger.acquire('c', { id: 'a', generation, trials: 1, leaseMs: LONG })
    expect(asked).toMatchObject({ state: 'open', granted: false })
  })

  law('when it is over, so many leases are given as there are trials, and the first makes it half-open', async (h) => {
    const first = await trying(h, 2)
    expect(first).toMatchObject({ state: 'half-open', granted: true })
    expect(first.leasedForMs).toBeGreaterThan(LONG - 5_000)
    const ask = (id: string) => h.ledger.acquire('c', { id, generation: first.generation, trials: 2, leaseMs: LONG })
    expect((await ask('b')).granted).toBe(true)
    expect((await ask('c')).granted).toBe(false)
    expect((await ask('a')).granted).toBe(true) // its own, kept
  })

  law('eight who ask at once get one lease', async (h) => {
    const { generation } = await opened(h.ledger, 20)
    await h.advance(21)
    const asked = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        h.ledger
          .acquire('c', { id: `${i}`, generation, trials: 1, leaseMs: LONG })
          .then(async (shared) =>
            shared.granted
              ? shared
              : h.ledger.acquire('c', { id: `${i}`, generation: shared.generation, trials: 1, leaseMs: LONG }),
          ),
      ),
    )
    expect(asked.filter(({ granted }) => granted)).toHaveLength(1)
  })

  law('a lease that has run out is another’s, and the result of its trial counts no more', async (h) => {
    const { generation } = await trying(h, 1, 20)
    await h.advance(25)
    const ask = { id: 'b', generation, trials: 1, leaseMs: LONG }
    expect((await h.ledger.acquire('c', ask)).granted).toBe(true)
    expect((await h.ledger.settle('c', result('a', generation))).state).toBe('half-open')
    expect((await h.ledger.settle('c', result('b', generation))).state).toBe('closed')
  })

  law('a success closes, a failure opens for its own time, and each opening counts', async (h) => {
    const first = await trying(h)
    const again = await h.ledger.settle('c', result('a', first.generation, { failed: true, openMs: 30 }))
    expect(again).toMatchObject({ state: 'open', openings: 2 })
    expect(again.openForMs).toBeLessThanOrEqual(30)
    await h.advance(35)
    const second = await h.ledger.acquire('c', { id: 'b', generation: again.generation, trials: 1, leaseMs: LONG })
    const closed = await h.ledger.settle('c', result('b', second.generation))
    expect(closed).toMatchObject({ state: 'closed', openings: 0, leasedForMs: 0 })
  })

  law('a trial that proves nothing gives its lease back', async (h) => {
    const { generation } = await trying(h)
    const shared = await h.ledger.settle('c', result('a', generation, { failed: 'ignore' }))
    expect(shared).toMatchObject({ state: 'half-open', leasedForMs: 0 })
    expect((await h.ledger.acquire('c', { id: 'b', generation, trials: 1, leaseMs: LONG })).granted).toBe(true)
  })

  law('several trials decide as soon as those to come change nothing, slow ones too', async (h) => {
    const { generation } = await trying(h, 3)
    const three = { ...rules, trials: 3, failuresToOpen: 2, slowToOpen: 2 }
    for (const id of ['b', 'c']) await h.ledger.acquire('c', { id, generation, trials: 3, leaseMs: LONG })
    const settle = (id: string, more: Partial<TrialResult>) =>
      h.ledger.settle('c', result(id, generation, { rules: three, ...more }))
    expect((await settle('a', { failed: true })).state).toBe('half-open')
    expect((await settle('b', { slow: true })).state).toBe('half-open')
    expect((await settle('c', { slow: true })).state).toBe('open')
  })

  law('a vote is told whether it was this one that opened the fleet', async ({ ledger }) => {
    const vote = (node: string) => ledger.vote('c', { node, generation: 0, openMs: LONG, quorum: 2 })
    expect((await vote('a')).granted).toBe(false)
    expect((await vote('b')).granted).toBe(true)
    expect((await vote('a')).granted).toBe(false)
  })

  law('a fleet of which some have tried goes on with circuits of fewer trials', async (h) => {
    const { generation } = await trying(h, 5)
    const five = { ...rules, trials: 5, failuresToOpen: 3 }
    await h.ledger.settle('c', result('a', generation, { rules: five }))
    const ask = (id: string) => h.ledger.acquire('c', { id, generation, trials: 1, leaseMs: LONG })
    expect((await ask('b')).granted).toBe(true)
    expect((await ask('c')).granted).toBe(false)
    expect((await h.ledger.settle('c', result('b', generation))).state).toBe('closed')
  })

  law('closing by hand closes whatever it is, and forgets the votes', async ({ ledger }) => {
    await opened(ledger, LONG)
    expect((await ledger.close('c', undefined)).state).toBe('closed')
    const { generation } = await ledger.view('c')
    const vote = (node: string) => ledger.vote('c', { node, generation, openMs: LONG, quorum: 2 })
    await vote('a')
    await ledger.close('c', undefined)
    expect((await vote('b')).state).toBe('closed')
  })

  law('names are any strings, and each is a fleet of its own', async ({ ledger }) => {
    for (const name of names) expect((await ledger.view(name)).state, name).toBe('closed')
    for (const [i, name] of names.entries()) {
      expect((await opened(ledger, LONG, name)).state, name).toBe('open')
      for (const other of names.slice(i + 1)) expect((await ledger.view(other)).state, other).toBe('closed')
    }
  })
}
