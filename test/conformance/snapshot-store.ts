import { expect } from 'vitest'
import type { SnapshotStore } from '../../src/event-sourcing/index.js'
import { lawsFor } from './laws.js'

export interface SnapshotStoreHarness {
  readonly snapshots: SnapshotStore
  close(): Promise<void>
}

/** @param gaps law → why this adapter can't keep it; such a test must fail. */
export function snapshotStoreContract(
  adapter: string,
  open: () => Promise<SnapshotStoreHarness>,
  gaps: Record<string, string> = {},
): void {
  const stated = lawsFor(adapter, open, gaps)
  const law = (name: string, check: (snapshots: SnapshotStore) => Promise<void>): void =>
    stated(name, ({ snapshots }) => check(snapshots))

  law('what was never put is not there', async (s) => {
    expect(await s.get('a', 1)).toBeUndefined()
    await s.drop('a')
  })

  law('the newest of a revision is given, whatever order they came in', async (s) => {
    for (const version of [20, 30, 10]) await s.put('a', 1, version, { version })
    expect(await s.get('a', 1)).toEqual({ version: 30, state: { version: 30 } })
    expect(await s.get('a', 2)).toBeUndefined()
    expect(await s.get('b', 1)).toBeUndefined()
  })

  law('a bound is inclusive', async (s) => {
    for (const version of [10, 20]) await s.put('a', 1, version, version)
    expect(await s.get('a', 1, 9)).toBeUndefined()
    expect((await s.get('a', 1, 10))?.version).toBe(10)
    expect((await s.get('a', 1, 19))?.version).toBe(10)
    expect((await s.get('a', 1, 20))?.version).toBe(20)
    expect((await s.get('a', 1, Number.MAX_SAFE_INTEGER))?.version).toBe(20)
  })

  law('revisions live beside each other; the same one again is replaced', async (s) => {
    await s.put('a', 1, 10, 'old shape')
    await s.put('a', 2, 5, 'new shape')
    await s.put('a', 1, 10, 'again')
    expect(await s.get('a', 1)).toEqual({ version: 10, state: 'again' })
    expect(await s.get('a', 2)).toEqual({ version: 5, state: 'new shape' })
  })

  law('drop forgets every revision of one stream', async (s) => {
    await s.put('a', 1, 10, 1)
    await s.put('a', 2, 10, 2)
    await s.put('b', 1, 10, 3)
    await s.drop('a')
    expect([await s.get('a', 1), await s.get('a', 2)]).toEqual([undefined, undefined])
    expect((await s.get('b', 1))?.state).toBe(3)
  })

  law('a state comes back as it was, and is nobody else’s', async (s) => {
    const state = { at: new Date(5), all: new Map([['a', 1n]]), text: 'a\u0000\ud800', none: undefined, list: [1] }
    const copy = structuredClone(state)
    const putting = s.put('a', 1, 1, state)
    state.list.push(2) // after the call
    await putting
    const first = await s.get('a', 1)
    expect(first?.state).toEqual(copy)
    const own = first?.state as typeof state | undefined
    own?.list.push(3)
    expect((await s.get('a', 1))?.state).toEqual(copy)
    await s.put('a', 1, 2, undefined)
    expect(await s.get('a', 1)).toEqual({ version: 2, state: undefined })
  })

  law('what can’t be kept is refused', async (s) => {
    await expect(s.put('a', 1, 1, { f: () => {} })).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
    expect(await s.get('a', 1)).toBeUndefined()
  })

  law('any stream name is its own', async (s) => {
    const names = ['a', 'a\u0000', '\\x61', '%', '', 'é', 'x'.repeat(5_000), `${'x'.repeat(4_999)}y`, '\ud800']
    for (const [i, name] of names.entries()) await s.put(name, 1, 1, i)
    for (const [i, name] of names.entries()) expect((await s.get(name, 1))?.state).toBe(i)
  })
}
