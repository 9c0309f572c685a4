import { expect } from 'vitest'
import type { Checkpoints } from '../../src/event-sourcing/index.js'
import { systemClock } from '../../src/kernel/clock.js'
import { lawsFor } from './laws.js'

/** `advance` lets `ms` pass on the clock of the leases. */
export interface CheckpointsHarness<Tx> {
  readonly checkpoints: Checkpoints<Tx>
  advance(ms: number): Promise<void>
  close(): Promise<void>
}

const nothing = async (): Promise<void> => {}
/** Longer than any test takes. */
const LONG = 600_000

/** Rejects after a second, so that an adapter that would wait for ever fails. */
async function inTime<T>(promise: Promise<T>): Promise<T> {
  const done = new AbortController()
  const late = systemClock.sleep(1_000, done.signal).then(() => Promise.reject(new Error('waits for ever')))
  late.catch(() => {})
  return Promise.race([promise, late]).finally(() => done.abort())
}

/** @param gaps law → why this adapter can't keep it; such a test must fail. */
export function checkpointsContract<Tx>(
  adapter: string,
  open: () => Promise<CheckpointsHarness<Tx>>,
  gaps: Record<string, string> = {},
): void {
  const law = lawsFor(adapter, open, gaps)
  const epochOf = async (c: Checkpoints<Tx>, owner: string, name = 'n'): Promise<number> => {
    const lease = await c.acquire(name, owner, LONG)
    if (!lease) throw new Error(`${owner} has no lease`)
    return lease.epoch
  }

  law('a new name has no position, and its first owner gets the lease', async ({ checkpoints: c }) => {
    expect(await c.position('n')).toBeUndefined()
    expect(await c.acquire('n', 'a', LONG)).toEqual({ epoch: 1, position: undefined })
    expect(await c.parked('n')).toEqual([])
  })

  law('one owner holds a lease at a time, and renews it under the same epoch', async ({ checkpoints: c }) => {
    const epoch = await epochOf(c, 'a')
    expect(await c.acquire('n', 'b', LONG)).toBeUndefined()
    expect((await c.acquire('n', 'a', LONG))?.epoch).toBe(epoch)
    expect((await c.acquire('other\u0000', 'b', LONG))?.epoch).toBe(1)
  })

  law('of many that ask at the same time one gets the lease', async ({ checkpoints: c }) => {
    const leases = await Promise.all(Array.from({ length: 10 }, (_, i) => c.acquire('n', `o${i}`, LONG)))
    expect(leases.filter(Boolean)).toHaveLength(1)
  })

  law('a lease that has run out goes to another owner with a higher epoch', async ({ checkpoints: c, advance }) => {
    await c.acquire('n', 'a', 20)
    await advance(21)
    expect((await c.acquire('n', 'b', LONG))?.epoch).toBe(2)
    expect(await c.acquire('n', 'a', LONG)).toBeUndefined()
  })

  law('a lease given back can be taken at once; only the last owner can give it back', async ({ checkpoints: c }) => {
    await c.release('n', await epochOf(c, 'a'))
    const epoch = await epochOf(c, 'b')
    expect(epoch).toBe(2)
    await c.release('n', 1)
    expect(await c.acquire('n', 'a', LONG)).toBeUndefined()
  })

  law('a commit moves the position; the next owner finds it', async ({ checkpoints: c }) => {
    const epoch = await epochOf(c, 'a')
    await c.commit('n', epoch, undefined, 0, nothing)
    expect(await c.position('n')).toBe(0)
    await c.commit('n', epoch, 0, 7, nothing)
    await c.release('n', epoch)
    expect(await c.acquire('n', 'b', LONG)).toEqual({ epoch: 2, position: 7 })
  })

  law('what the work throws comes out as the same object, and the position stays', async ({ checkpoints: c }) => {
    const epoch = await epochOf(c, 'a')
    const boom = new Error('boom')
    await expect(c.commit('n', epoch, undefined, 5, () => Promise.reject(boom))).rejects.toBe(boom)
    expect(await c.position('n')).toBeUndefined()
  })

  law('an owner that was replaced commits nothing, parks nothing', async ({ checkpoints: c, advance }) => {
    const first = await c.acquire('n', 'a', 20)
    await advance(21)
    await c.acquire('n', 'b', LONG)
    const fenced = { code: 'FENCED', subscription: 'n' }
    await expect(c.commit('n', first?.epoch ?? 0, undefined, 5, nothing)).rejects.toMatchObject(fenced)
    const parked = { position: 5, streamId: 's', version: 1, attempts: 1, error: 'x' }
    await expect(c.park('n', first?.epoch ?? 0, undefined, parked)).rejects.toMatchObject(fenced)
    expect(await c.position('n')).toBeUndefined()
    expect(await c.parked('n')).toEqual([])
  })

  law('an owner that is replaced while it works commits nothing', async ({ checkpoints: c, advance }) => {
    const lease = await c.acquire('n', 'a', 20)
    const slow = c.commit('n', lease?.epoch ?? 0, undefined, 5, async () => {
      await advance(21)
      await inTime(c.acquire('n', 'b', LONG))
    })
    await expect(slow).rejects.toMatchObject({ code: 'FENCED' })
    expect(await c.position('n')).toBeUndefined()
  })

  law('a commit from another position than the last is refused', async ({ checkpoints: c }) => {
    const epoch = await epochOf(c, 'a')
    await c.commit('n', epoch, undefined, 3, nothing)
    await expect(c.commit('n', epoch, undefined, 4, nothing)).rejects.toMatchObject({ code: 'FENCED' })
    await expect(c.commit('n', epoch, 2, 4, nothing)).rejects.toMatchObject({ code: 'FENCED' })
    await expect(c.commit('unknown', 1, undefined, 4, nothing)).rejects.toMatchObject({ code: 'FENCED' })
    expect(await c.position('n')).toBe(3)
  })

  law('parking notes the event and moves past it', async ({ checkpoints: c }) => {
    const epoch = await epochOf(c, 'a')
    const parked = { position: 5, streamId: 's\u0000', version: 2, attempts: 3, error: 'no \u0000 good' }
    await c.park('n', epoch, undefined, parked)
    await c.park('n', epoch, 5, { ...parked, position: 11 })
    expect(await c.position('n')).toBe(11)
    expect(await c.parked('n')).toEqual([parked, { ...parked, position: 11 }])
    expect(await c.parked('other')).toEqual([])
  })
}
