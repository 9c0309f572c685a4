import { expect } from 'vitest'
import { CacheManager, MemoryCacheBackplane, MemoryCacheStore, type Ack } from '../../src/cache/index.js'
import { ManualClock, seededRandom } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { behindLine, behindNetwork } from './faulty-store.js'

const STALENESS_MS = 400
/** Good messages take less. */
const GOOD_MS = 15
const KEYS = ['a', 'b', 'c'] as const
type Key = (typeof KEYS)[number]
type Cached = CacheManager<Record<Key, number>>

/** A change of the origin that the cache was told of. */
interface Change {
  readonly manager: number
  readonly key: Key
  readonly version: number
  resolvedAt: number
  ack: Ack | undefined
}

interface Read {
  readonly manager: number
  readonly key: Key
  readonly version: number
  readonly began: number
  readonly ended: number
}

interface World {
  readonly managers: number
  readonly levels: 'first' | 'both' | 'second'
  /** Processes are cut off from the second level, and calls and answers are lost. */
  readonly faults: boolean
  /** How managers hear of each other's changes: not at all, or by messages that are lost, doubled and late, or not lost and soon. */
  readonly messages?: 'none' | 'poor' | 'good'
  readonly seed: number
  readonly steps: number
}

/**
 * Several managers on one store, an origin whose values are version numbers, and readers and writers that act at random times
 * over a slow line. Of every read it is known what the oldest version is that it may return.
 */
async function run({ managers: count, levels, faults, messages = 'none', seed, steps }: World): Promise<void> {
  const random = seededRandom(seed)
  const below = (n: number): number => Math.floor(random() * n)
  const clock = new ManualClock()
  const store = new MemoryCacheStore({ clock })
  const cutUntil = Array.from({ length: count }, () => 0)
  const line = (manager: number) =>
    behindLine(store, clock, () => {
      const cut = clock.now() < (cutUntil[manager] as number)
      return { thereMs: below(4), backMs: below(8), lost: cut ? (below(2) ? 'there' : 'back') : undefined }
    })
  const backplane = new MemoryCacheBackplane()
  const copies = (manager: number) => (): number[] => {
    if (messages === 'good') return [below(GOOD_MS)]
    if (clock.now() < cutUntil[manager]! || below(7) === 0) return []
    return Array.from({ length: 1 + below(2) }, () => below(60))
  }
  let gaps = 0
  const caches: Cached[] = Array.from({ length: levels === 'first' ? 1 : count }, (_, i) => {
    const cache = new CacheManager<Record<Key, number>>({
      ...(levels === 'first' ? {} : { l2: line(i) }),
      ...(messages === 'none' ? {} : { backplane: behindNetwork(backplane, clock, copies(i)) }),
      ...(levels === 'second' ? { l1: false as const } : {}),
      clock,
      random,
      maxStalenessMs: STALENESS_MS,
      leaseMs: 5_000,
      defaults: { ttlMs: 3_000, tags: ['all'] },
    })
    cache.on('dropped', () => gaps++)
    return cache
  })
  if (messages === 'good') await Promise.all([clock.advance(100), ...caches.map((cache) => cache.has('a'))]) // all know where it stands
  const origin: Record<Key, number> = { a: 0, b: 0, c: 0 }
  const writing = new Set<Key>()
  const changes: Change[] = []
  const reads: Read[] = []
  const under: Promise<unknown>[] = []

  const load = (key: Key) => async (context: { set(o: { tags: string[] }): void }) => {
    const version = origin[key]
    await clock.sleep(below(3) === 0 ? below(600) : below(30))
    if (key !== 'c') context.set({ tags: [`late-${key}`] })
    return version
  }

  const read = async (manager: number, key: Key): Promise<void> => {
    const began = clock.now()
    const cache = caches[manager] as Cached
    const kind = below(10)
    let version: number | undefined
    if (kind < 6) version = await cache.getOrSet(key, load(key))
    else if (kind < 7) version = await cache.getOrSet(key, load(key), { fresh: true })
    else if (kind < 8) {
      const all = [key, ...KEYS.filter((other) => other !== key)]
      const loadMany = async (missing: readonly Key[]): Promise<Map<Key, number>> => {
        const versions = missing.map((k) => [k, origin[k]] as const)
        await clock.sleep(below(40))
        return new Map(versions)
      }
      version = (await cache.getOrSetMany(all, loadMany, { tags: ['all', 'late-a', 'late-b'] })).get(key)
    } else if (kind < 9) version = await cache.get(key)
    else version = cache.peek(key)
    if (version !== undefined) reads.push({ manager, key, version, began, ended: clock.now() })
  }

  const write = async (manager: number, key: Key): Promise<void> => {
    if (writing.has(key)) return // two writers of one key at once: which is the older value is then anyone's guess
    writing.add(key)
    const cache = caches[manager] as Cached
    const version = ++origin[key]
    const change: Change = { manager, key, version, resolvedAt: Infinity, ack: undefined }
    changes.push(change)
    const kind = below(6)
    if (kind < 2) change.ack = await cache.delete(key)
    else if (kind === 2 && key !== 'c') change.ack = await cache.invalidateTags(`late-${key}`)
    else if (kind === 3) change.ack = await cache.expire({ keys: [key] })
    else if (kind === 4 && below(4) === 0) change.ack = await cache.clear()
    else change.ack = await cache.set(key, version, { tags: key === 'c' ? ['all'] : ['all', `late-${key}`] })
    change.resolvedAt = clock.now()
    writing.delete(key)
  }

  for (let i = 0; i < steps; i++) {
    const manager = below(caches.length)
    const key = KEYS[below(KEYS.length)] as Key
    const kind = below(100)
    if (kind < 70) under.push(read(manager, key))
    else if (kind < 88) under.push(write(manager, key))
    else if (kind < 90 && faults) cutUntil[manager] = clock.now() + below(2_500)
    await clock.advance(below(3) === 0 ? below(150) : below(8))
  }
  await clock.advance(8_000)
  await Promise.all(under)

  const told = new Map<string, Read[]>()
  for (const r of reads) {
    for (const c of changes) {
      if (c.key !== r.key || r.version >= c.version) continue
      const what = `version ${r.version} read by ${r.manager} at ${r.began}, but ${c.version} was ${c.ack} by ${c.manager} at ${c.resolvedAt}`
      const own = c.manager === r.manager && c.resolvedAt < r.began
      if (own) expect.unreachable(`own change: ${what}`)
      const boundMs = messages === 'good' ? GOOD_MS : STALENESS_MS
      if (c.ack === 'applied' && r.began > c.resolvedAt + boundMs) expect.unreachable(`bounded staleness: ${what}`)
    }
    const id = `${r.manager}${r.key}`
    const before = told.get(id) ?? []
    const newer = before.find((b) => b.ended < r.began && b.version > r.version)
    if (newer && !faults)
      expect.unreachable(
        `monotonic: ${r.version} of ${r.key} at ${r.began}, but ${newer.version} before, at ${newer.ended}`,
      )
    told.set(id, [...before, r])
  }
  if (messages === 'good') expect(gaps).toBe(0)
  await Promise.all(caches.map((cache) => cache.close()))
  expect(clock.pendingTimers).toBe(0)
}

/** A load that waited for its lease across a change of its own process once sent a reader back in time. */
const WAITED_FOR_ITS_LEASE: [number, number, World['levels']] = [2_937_725_144, 3, 'both']

const seed = fc.integer({ min: 0, max: 2 ** 32 - 1 })

prop(
  'no read returns what its own process invalidated before, or another longer than the bound ago, or what is older than the last read',
  [seed, fc.integer({ min: 1, max: 3 }), fc.constantFrom('both', 'second', 'first')],
  (s, managers, levels) => run({ managers, levels, faults: false, seed: s, steps: 120 }),
  { numRuns: 12, examples: [WAITED_FOR_ITS_LEASE] },
)

prop(
  'nor does it when processes are cut off from the second level and calls or answers are lost',
  [seed, fc.integer({ min: 1, max: 3 }), fc.constantFrom('both', 'second')],
  (s, managers, levels) => run({ managers, levels, faults: true, seed: s, steps: 120 }),
  { numRuns: 12 },
)

prop(
  'nor does it with messages that are lost, doubled and late, whether calls are lost too or not',
  [seed, fc.integer({ min: 2, max: 3 }), fc.boolean()],
  (s, managers, faults) => run({ managers, levels: 'both', faults, messages: 'poor', seed: s, steps: 120 }),
  { numRuns: 12 },
)

prop(
  'with messages that arrive soon, no read is older than they take, and no first level is emptied for a gap',
  [seed, fc.integer({ min: 2, max: 3 })],
  (s, managers) => run({ managers, levels: 'both', faults: false, messages: 'good', seed: s, steps: 120 }),
  { numRuns: 12 },
)
