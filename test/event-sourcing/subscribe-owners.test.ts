import { expect, test } from 'vitest'
import type { Checkpoints } from '../../src/event-sourcing/index.js'
import { StoreError } from '../../src/kernel/errors.js'
import { settle } from '../../src/testing/index.js'
import { gate } from '../support/gate.js'
import { open } from './subscriptions.js'

// dcb-es: two runners of one name counted every event twice.
test('of two under one name one works; the other takes over when it stops', async () => {
  const { start, append, clock } = open()
  const seen: string[] = []
  const a = start((event) => void seen.push(`a${String(event.data)}`))
  const b = start((event) => void seen.push(`b${String(event.data)}`))
  await append(1, 2)
  await clock.advance(1_000)
  expect(seen).toEqual(['a1', 'a2'])
  expect([a.state, b.state, b.position]).toEqual(['live', 'standby', 2])
  await a.stop()
  await append(3)
  await clock.advance(1_000)
  expect(seen).toEqual(['a1', 'a2', 'b3'])
})

test('reached() works on the one that stands by', async () => {
  const { start, append, clock } = open()
  start(() => {})
  await settle()
  const standby = start(() => {})
  await clock.advance(1_000)
  const position = await append(1)
  const waiting = standby.reached(position, 5_000)
  await clock.advance(1_000)
  await waiting
})

test('a dead owner is replaced when its lease runs out, and a paused one commits nothing when it wakes up', async () => {
  const { start, append, clock, checkpoints } = open()
  await append(1, 2)
  const hold = gate()
  const seen: string[] = []
  // An owner whose renewals are lost: it is cut off while its handler works.
  const cut: Checkpoints = Object.assign(Object.create(checkpoints) as Checkpoints, {
    acquire: async (name: string, owner: string, ttlMs: number) => {
      if (acquired++ > 0) throw new StoreError('cut off')
      return checkpoints.acquire(name, owner, ttlMs)
    },
    commit: checkpoints.commit.bind(checkpoints),
    release: checkpoints.release.bind(checkpoints),
    position: checkpoints.position.bind(checkpoints),
  })
  let acquired = 0
  let told: AbortSignal | undefined
  start(
    async (event, { signal }) => {
      told = signal
      if (event.data === 2) await hold.passed
      seen.push(`a${String(event.data)}`)
    },
    { leaseMs: 9_000, batch: 1 },
    cut,
  )
  await settle()
  start((event) => void seen.push(`b${String(event.data)}`), { leaseMs: 9_000 })
  await clock.advance(8_000)
  expect(seen).toEqual(['a1'])
  await clock.advance(4_000)
  expect(seen).toEqual(['a1', 'b2'])
  expect(told?.aborted).toBe(true)
  hold.open()
  await settle()
  expect(await checkpoints.position('n')).toBe(2)
})

test('a long handler keeps its lease', async () => {
  const { start, append, clock } = open()
  await append(1)
  const hold = gate()
  const seen: string[] = []
  start(() => hold.passed.then(() => void seen.push('a')), { leaseMs: 3_000 })
  await settle()
  start(() => void seen.push('b'), { leaseMs: 3_000 })
  await clock.advance(30_000)
  hold.open()
  await clock.advance(1_000)
  expect(seen).toEqual(['a'])
})
