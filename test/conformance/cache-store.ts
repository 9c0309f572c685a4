import { expect } from 'vitest'
import type { CacheStore, StoredEntry } from '../../src/cache/store.js'
import { lawsFor } from './laws.js'

/** `advance` lets `ms` pass: moves a fake clock, or really waits where the store has its own. */
export interface CacheStoreHarness {
  readonly store: CacheStore
  advance(ms: number): Promise<void>
  /** Epoch milliseconds by the store's clock. */
  epochMs(): number
  close(): Promise<void>
}

/** @param gaps law → why this adapter can't keep it; such a test must fail. */
export function cacheStoreContract(
  adapter: string,
  open: () => Promise<CacheStoreHarness>,
  gaps: Readonly<Record<string, string>> = {},
): void {
  type Setup = CacheStoreHarness & {
    entry(payload: string, rest?: Partial<StoredEntry>): StoredEntry
    /** Writes one entry that stays fresh during a test, whatever the delays. */
    put(key: string, payload: string, rest?: Partial<StoredEntry>, ms?: number): Promise<number>
    payload(key: string): Promise<unknown>
    granted(key: string, ms?: number, force?: boolean): Promise<{ token: string; seq: number }>
  }
  const stated = lawsFor(adapter, open, gaps)
  const law = (name: string, check: (setup: Setup) => Promise<void>): void =>
    stated(name, async (harness) => {
      const { store } = harness
      const entry = (payload: string, rest: Partial<StoredEntry> = {}): StoredEntry => {
        const storedAt = harness.epochMs()
        return { payload, stamp: 0, freshUntil: storedAt + LONG_MS, storedAt, tags: [], ...rest }
      }
      await check({
        ...harness,
        entry,
        put: (key, payload, rest, ms = LONG_MS) => store.write([{ key, entry: entry(payload, rest), ms }], 'me'),
        payload: async (key) => (await store.read([key])).entries[0]?.payload,
        async granted(key, ms = LONG_MS, force = false) {
          const lease = await store.lease(key, ms, force)
          if (lease.kind !== 'granted') throw new Error(`expected a lease, got ${lease.kind}`)
          return lease
        },
      })
    })

  law('an entry comes back with every field as it was written, stamped with the number of the write', async (t) => {
    const entry = t.entry('é\u0000"\n', { tags: ['a', 'b\n', '\ud800'], etag: 'W/"1"', loadMs: 12 })
    const seq = await t.store.write([{ key: 'k', entry, ms: LONG_MS }], 'me')
    const read = await t.store.read(['k'])
    expect(read).toEqual({ entries: [{ ...entry, stamp: seq, freshUntil: NEAR, storedAt: NEAR }], seq })
    // A store that keeps time by its own clock is off by what a call takes.
    expect(Math.abs(read.entries[0]!.freshUntil - entry.freshUntil)).toBeLessThan(SLACK_MS)
    expect(Math.abs(read.entries[0]!.storedAt - entry.storedAt)).toBeLessThan(SLACK_MS)
  })

  law('a payload may be any bytes, and any text', async (t) => {
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
    const payloads = [bytes, new Uint8Array(), '', '\ud800 \n', 'x'.repeat(100_000)]
    for (const payload of payloads) {
      await t.store.write([{ key: 'k', entry: { ...t.entry(''), payload }, ms: LONG_MS }], 'me')
      expect(await t.payload('k')).toEqual(payload)
    }
  })

  law('an entry with a great many tags is found, and goes with any of them', async (t) => {
    const tags = Array.from({ length: 9_000 }, (_, i) => `tag ${i}`)
    await t.put('k', 'v', { tags })
    expect(await t.payload('k')).toBe('v')
    await t.store.invalidate({ kind: 'tags', tags: tags.slice(-1) }, 'me')
    expect(await t.payload('k')).toBeUndefined()
  })

  law('a great many keys are read, and taken away, at once', async (t) => {
    const keys = Array.from({ length: 9_000 }, (_, i) => `key ${i}`)
    await t.store.write(
      keys.map((key) => ({ key, entry: t.entry(key), ms: LONG_MS })),
      'me',
    )
    const { entries } = await t.store.read(keys)
    expect(entries.filter((entry, i) => entry?.payload === keys[i]).length).toBeGreaterThanOrEqual(64) // all that fit
    await t.store.invalidate({ kind: 'keys', keys }, 'me')
    expect((await t.store.read(keys)).entries.some(Boolean)).toBe(false)
  })

  law('a read answers in the order of its keys, repeated ones too, with nothing where nothing is', async (t) => {
    await t.put('a', '1')
    await t.put('b', '2')
    const { entries } = await t.store.read(['b', 'none', 'a', 'b'])
    expect(entries.map((e) => e?.payload)).toEqual(['2', undefined, '1', '2'])
    expect((await t.store.read([])).entries).toEqual([])
  })

  law('keys and tags are any strings', async (t) => {
    const names = [
      '',
      ' ',
      '*',
      'a:b',
      'a::b',
      '{x}',
      '__proto__',
      'constructor',
      '~',
      '\u0000',
      '\n',
      '😀',
      '\ud800',
      '\ud801',
      'x'.repeat(9000),
    ]
    await t.store.write(
      names.map((name) => ({ key: name, entry: t.entry(`of ${name}`, { tags: [name] }), ms: LONG_MS })),
      'me',
    )
    const { entries } = await t.store.read(names)
    expect(entries.map((e) => e?.payload)).toEqual(names.map((name) => `of ${name}`))
    for (const [i, name] of names.entries()) {
      await t.store.invalidate({ kind: 'tags', tags: [name] }, 'me')
      const left = (await t.store.read(names)).entries.filter((e) => e !== undefined)
      expect(left).toHaveLength(names.length - 1 - i)
    }
  })

  law('writes and invalidations each move the number on by one; fills, leases and reads do not', async (t) => {
    const start = (await t.store.state([])).seq
    expect(await t.put('a', '1')).toBe(start + 1)
    expect(await t.store.invalidate({ kind: 'keys', keys: ['a', 'b'] }, 'me')).toBe(start + 2)
    expect(await t.store.invalidate({ kind: 'tags', tags: ['x', 'y'] }, 'me')).toBe(start + 3)
    expect(await t.store.invalidate({ kind: 'all' }, 'me')).toBe(start + 4)
    const { token, seq } = await t.granted('c')
    expect(seq).toBe(start + 4)
    await t.store.fill('c', token, t.entry('1', { stamp: seq }), LONG_MS)
    expect((await t.store.read(['c'])).seq).toBe(start + 4)
    const many = await Promise.all(Array.from({ length: 20 }, (_, i) => t.put(`m${i}`, 'x')))
    expect(new Set(many).size).toBe(20)
    expect((await t.store.state([])).seq).toBe(start + 24)
  })

  law('all items of one write appear together and share one number', async (t) => {
    const items = ['a', 'b'].map((key) => ({ key, entry: t.entry(key), ms: LONG_MS }))
    const seq = await t.store.write(items, 'me')
    expect((await t.store.read(['a', 'b'])).entries.map((e) => e?.stamp)).toEqual([seq, seq])
  })

  law('an entry is kept for as long as asked, past its freshness, and no longer', async (t) => {
    await t.put('k', 'v', { freshUntil: t.epochMs() }, 300)
    expect(await t.payload('k')).toBe('v')
    await t.advance(400)
    expect(await t.payload('k')).toBeUndefined()
  })

  law('of all who ask for a lease at the same time, one is granted it', async (t) => {
    const all = await Promise.all(Array.from({ length: 20 }, () => t.store.lease('k', LONG_MS)))
    expect(all.filter(({ kind }) => kind === 'granted')).toHaveLength(1)
    expect(all.filter(({ kind }) => kind === 'busy')).toHaveLength(19)
  })

  law('a fresh entry is the answer to a request for a lease, unless it is forced', async (t) => {
    await t.put('k', 'v')
    expect(await t.store.lease('k', LONG_MS)).toMatchObject({ kind: 'hit', entry: { payload: 'v' } })
    await t.granted('k', LONG_MS, true)
    expect(await t.store.lease('k', LONG_MS, true)).toEqual({ kind: 'busy' })
    expect(await t.payload('k')).toBe('v')
  })

  law('an entry past its freshness does not keep anyone from loading', async (t) => {
    await t.put('k', 'v', { freshUntil: t.epochMs() - 1 })
    const { token, seq } = await t.granted('k')
    expect(await t.store.fill('k', token, t.entry('new', { stamp: seq }), LONG_MS)).toBe(true)
    expect(await t.payload('k')).toBe('new')
  })

  law('a fill ends its lease: the next fill with it is refused', async (t) => {
    const { token, seq } = await t.granted('k')
    expect(await t.store.fill('k', token, t.entry('1', { stamp: seq }), LONG_MS)).toBe(true)
    expect(await t.store.fill('k', token, t.entry('2', { stamp: seq }), LONG_MS)).toBe(false)
    expect(await t.payload('k')).toBe('1')
  })

  law('a fill without an entry gives the lease back and stores nothing', async (t) => {
    const { token } = await t.granted('k')
    await t.store.fill('k', token, undefined, 0)
    expect(await t.payload('k')).toBeUndefined()
    await t.granted('k')
  })

  law('a fill with a token that was never granted stores nothing and leaves the lease alone', async (t) => {
    const { token, seq } = await t.granted('k')
    expect(await t.store.fill('k', `${token}x`, t.entry('wrong'), LONG_MS)).toBe(false)
    expect(await t.store.fill('other', token, t.entry('wrong'), LONG_MS)).toBe(false)
    expect(await t.store.fill('k', token, t.entry('right', { stamp: seq }), LONG_MS)).toBe(true)
    expect([await t.payload('k'), await t.payload('other')]).toEqual(['right', undefined])
  })

  law('a lease that is past is worth nothing, whether another has one or not', async (t) => {
    const first = await t.granted('k', 100)
    await t.advance(200)
    expect(await t.store.fill('k', first.token, t.entry('late'), LONG_MS)).toBe(false)
    const second = await t.granted('k', 100)
    await t.advance(200)
    const third = await t.granted('k')
    expect(await t.store.fill('k', second.token, t.entry('late'), LONG_MS)).toBe(false)
    expect(await t.store.fill('k', third.token, t.entry('v', { stamp: third.seq }), LONG_MS)).toBe(true)
  })

  law('an invalidation of a key takes the entry and refuses the load that began before', async (t) => {
    await t.put('k', 'old', { freshUntil: t.epochMs() - 1 })
    const { token, seq } = await t.granted('k')
    await t.store.invalidate({ kind: 'keys', keys: ['k'] }, 'me')
    expect(await t.payload('k')).toBeUndefined()
    const after = await t.granted('k')
    expect(await t.store.fill('k', token, t.entry('older', { stamp: seq }), LONG_MS)).toBe(false)
    expect(await t.store.fill('k', after.token, t.entry('newer', { stamp: after.seq }), LONG_MS)).toBe(true)
    expect(await t.payload('k')).toBe('newer')
  })

  law('a write refuses the load that began before', async (t) => {
    const { token, seq } = await t.granted('k')
    await t.put('k', 'set')
    expect(await t.store.fill('k', token, t.entry('loaded', { stamp: seq }), LONG_MS)).toBe(false)
    expect(await t.payload('k')).toBe('set')
  })

  law('an invalidation of everything takes every entry and refuses every load that began before', async (t) => {
    await t.put('a', '1', { tags: ['x'] })
    const { token, seq } = await t.granted('b')
    await t.store.invalidate({ kind: 'all' }, 'me')
    expect(await t.store.fill('b', token, t.entry('2', { stamp: seq }), LONG_MS)).toBe(false)
    expect((await t.store.read(['a', 'b'])).entries).toEqual([undefined, undefined])
    await t.put('a', '3', { tags: ['x'] })
    expect(await t.payload('a')).toBe('3')
  })

  law('an invalidation of tags takes what carries one of them and nothing else', async (t) => {
    await t.put('a', '1', { tags: ['x', 'y'] })
    await t.put('b', '2', { tags: ['y'] })
    await t.put('c', '3')
    await t.store.invalidate({ kind: 'tags', tags: ['x', 'z'] }, 'me')
    expect((await t.store.read(['a', 'b', 'c'])).entries.map((e) => e?.payload)).toEqual([undefined, '2', '3'])
    expect((await t.store.lease('a', LONG_MS)).kind).toBe('granted')
  })

  law('an entry written right after an invalidation of its tag is valid', async (t) => {
    for (let i = 0; i < 50; i++) {
      await t.store.invalidate({ kind: 'tags', tags: ['x'] }, 'me')
      await t.put(`k${i}`, 'v', { tags: ['x'] })
      expect(await t.payload(`k${i}`)).toBe('v')
    }
  })

  law('a load is refused when one of its tags was invalidated after it began, known before or not', async (t) => {
    const { token, seq } = await t.granted('k')
    await t.store.invalidate({ kind: 'tags', tags: ['x'] }, 'me')
    expect(await t.store.fill('k', token, t.entry('v', { stamp: seq, tags: ['w', 'x'] }), LONG_MS)).toBe(false)
    const next = await t.granted('k') // and the lease is free again
    expect(await t.store.fill('k', next.token, t.entry('v', { stamp: next.seq, tags: ['w', 'x'] }), LONG_MS)).toBe(true)
  })

  law('a load is refused for its tag, however many other tags were invalidated after that', async (t) => {
    const { token, seq } = await t.granted('k')
    await t.store.invalidate({ kind: 'tags', tags: ['x'] }, 'me')
    for (let i = 0; i < 4; i++) {
      await t.advance(5)
      await t.store.invalidate({ kind: 'tags', tags: [`other ${i}`] }, 'me')
    }
    expect(await t.store.fill('k', token, t.entry('v', { stamp: seq, tags: ['x'] }), LONG_MS)).toBe(false)
  })

  law(
    'a soft invalidation keeps the entry as expired, refuses the load that began before and lets another begin',
    async (t) => {
      await t.put('a', '1', { tags: ['x'] })
      await t.put('b', '2', { tags: ['x'] })
      const forced = await t.granted('a', LONG_MS, true)
      await t.store.invalidate({ kind: 'keys', keys: ['a', 'none'], soft: true }, 'me')
      expect((await t.store.read(['a', 'none'])).entries).toMatchObject([{ payload: '1', freshUntil: 0 }, undefined])
      expect(await t.store.fill('a', forced.token, t.entry('0', { stamp: forced.seq }), LONG_MS)).toBe(false)
      await t.granted('a')
      await t.store.invalidate({ kind: 'tags', tags: ['x'], soft: true }, 'me')
      expect((await t.store.read(['b'])).entries).toMatchObject([{ payload: '2', freshUntil: 0 }])
      await t.granted('b')
    },
  )

  law('what was invalidated for good does not come back by a later soft invalidation', async (t) => {
    await t.put('a', '1', { tags: ['x'] })
    await t.store.invalidate({ kind: 'tags', tags: ['x'] }, 'me')
    await t.store.invalidate({ kind: 'tags', tags: ['x'], soft: true }, 'me')
    await t.store.invalidate({ kind: 'keys', keys: ['a'], soft: true }, 'me')
    expect(await t.payload('a')).toBeUndefined()
  })

  law('the state tells the number of the last invalidation of each tag, and the same epoch each time', async (t) => {
    const before = await t.store.state(['x', 'y'])
    const x = await t.store.invalidate({ kind: 'tags', tags: ['x'] }, 'me')
    const both = await t.store.invalidate({ kind: 'tags', tags: ['x', 'y'], soft: true }, 'me')
    expect(before.tags).toEqual([0, 0])
    expect(both).toBe(x + 1)
    expect(await t.store.state(['y', 'none', 'x'])).toEqual({ epoch: before.epoch, seq: both, tags: [both, 0, both] })
  })
}

/** Longer than any test. */
const LONG_MS = 600_000

/** How far the times of an entry may be off. */
const SLACK_MS = 10_000
const NEAR: unknown = expect.any(Number)
