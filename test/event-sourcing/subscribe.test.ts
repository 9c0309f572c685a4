import { expect, test } from 'vitest'
import { MemoryCheckpoints, subscribe, type SubscriptionOptions } from '../../src/event-sourcing/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { checkpointsContract } from '../conformance/checkpoints.js'
import { gate } from '../support/gate.js'
import { e, open } from './subscriptions.js'

checkpointsContract('memory', async () => {
  const clock = new ManualClock()
  return { checkpoints: new MemoryCheckpoints({ clock }), advance: (ms) => clock.advance(ms), close: async () => {} }
})

test('a subscription handles what is there, then what comes, in order', async () => {
  const { start, append, clock } = open()
  await append(1, 2)
  const seen: unknown[] = []
  const subscription = start((event) => void seen.push(event.data))
  expect(subscription.state).toBe('standby')
  await settle()
  expect([subscription.state, subscription.position, seen]).toEqual(['live', 2, [1, 2]])
  await append(3)
  await settle() // woken: no time has passed
  expect(seen).toEqual([1, 2, 3])
  await clock.advance(10_000)
  expect(seen).toEqual([1, 2, 3])
})

test('without a hint, polling finds what came', async () => {
  const { start, append, store, clock } = open()
  store.wake = () => () => {}
  const seen: unknown[] = []
  start((event) => void seen.push(event.data), { pollMs: 200 })
  await clock.advance(5_000)
  await append(1)
  await settle()
  expect(seen).toEqual([])
  await clock.advance(200)
  expect(seen).toEqual([1])
})

test('a page is handled event by event, and the checkpoint follows', async () => {
  const { start, append, checkpoints } = open()
  await append(1, 2, 3, 4, 5)
  const hold = gate()
  const seen: unknown[] = []
  start(
    async (event) => {
      seen.push(event.data)
      if (event.data === 4) await hold.passed
    },
    { batch: 3 },
  )
  await settle()
  expect(seen).toEqual([1, 2, 3, 4])
  expect(await checkpoints.position('n')).toBe(3)
  hold.open()
  await settle()
  expect(await checkpoints.position('n')).toBe(5)
})

test('a subscription goes on from its checkpoint, not from the start', async () => {
  const { start, append } = open()
  await append(1, 2)
  const seen: unknown[] = []
  const first = start((event) => void seen.push(event.data))
  await settle()
  await first.stop()
  expect(first.state).toBe('stopped')
  await append(3)
  start((event) => void seen.push(event.data), { from: 'end' })
  await settle()
  expect(seen).toEqual([1, 2, 3])
})

test('a new name begins where `from` says, and a restart does not move it', async () => {
  const { store, clock, append } = open()
  const dates: Date[] = []
  for (const n of [1, 2, 3]) {
    await append(n)
    dates.push(new Date(clock.epochMs()))
    await clock.advance(10)
  }
  const seenFrom = async (from: SubscriptionOptions['from']): Promise<unknown[]> => {
    const checkpoints = new MemoryCheckpoints({ clock })
    const seen: unknown[] = []
    for (const round of [0, 1]) {
      const subscription = subscribe(store, checkpoints, 'n', (event) => void seen.push(event.data), { from, clock })
      await settle()
      await subscription.stop()
      if (round === 0) await store.append('later', [e('later')])
    }
    await store.truncate('later', 99)
    return seen
  }
  expect(await seenFrom('start')).toEqual([1, 2, 3, 'later'])
  expect(await seenFrom('end')).toEqual(['later'])
  expect(await seenFrom(2)).toEqual([3, 'later'])
  expect(await seenFrom(dates[1])).toEqual([2, 3, 'later'])
  expect(await seenFrom(new Date((dates[1] as Date).getTime() + 1))).toEqual([3, 'later'])
  expect(await seenFrom(new Date(clock.epochMs() + 1))).toEqual(['later'])
})

test('from the end of an empty log: what comes while nobody works is not passed by', async () => {
  const { start, append } = open()
  const first = start(() => {}, { from: 'end' })
  await settle()
  await first.stop()
  await append(1)
  const seen: unknown[] = []
  start((event) => void seen.push(event.data), { from: 'end' })
  await settle()
  expect(seen).toEqual([1])
})

test('a query picks the events; the position passes by the others', async () => {
  const { start, store } = open()
  await store.append('s', [e(1, 'a'), e(2, 'b'), e(3, 'a', ['t'])])
  const seen: unknown[] = []
  const subscription = start((event) => void seen.push(event.data), {
    query: { items: [{ types: ['b'] }, { tags: ['t'] }] },
  })
  await settle()
  await store.append('s', [e(4, 'a')])
  await settle()
  expect([seen, subscription.position, await subscription.lag()]).toEqual([[2, 3], 4, 0])
})

test('reached() waits until everything up to a position is done', async () => {
  const { start, append, clock } = open()
  const hold = gate()
  const subscription = start(() => hold.passed)
  const position = await append(1)
  let reached = false
  const waiting = subscription.reached(position).then(() => (reached = true))
  await settle()
  expect([reached, await subscription.lag()]).toEqual([false, 1])
  hold.open()
  await waiting
  await subscription.reached(position)
  const late = subscription.reached(position + 1, 500)
  const told = expect(late).rejects.toMatchObject({ code: 'TIMEOUT', timeoutMs: 500 })
  await clock.advance(500)
  await told
})

test('who waits for a position is told when the subscription ends', async () => {
  const { start } = open()
  const subscription = start(() => {})
  const told = expect(subscription.reached(5)).rejects.toMatchObject({ code: 'CLOSED' })
  await subscription.stop()
  await told
  await expect(subscription.reached(5)).rejects.toMatchObject({ code: 'CLOSED' })
})

test('a log that is shorter than the checkpoint ends the subscription instead of waiting', async () => {
  const { start, checkpoints } = open()
  const lease = await checkpoints.acquire('n', 'someone', 1)
  await checkpoints.commit('n', lease?.epoch ?? 0, undefined, 99, async () => {})
  await checkpoints.release('n', lease?.epoch ?? 0)
  const subscription = start(() => {})
  const failed = new Promise((resolve) => subscription.on('failed', resolve))
  expect(await failed).toMatchObject({ error: { code: 'CORRUPT_DATA' } })
})

test('a subscription ends quietly with its store', async () => {
  const { start, store, clock } = open()
  const subscription = start(() => {})
  await settle()
  await store.close()
  await clock.advance(1_000)
  expect(subscription.state).toBe('stopped')
})

test('a mistake in the options is found at once', () => {
  const { store, checkpoints } = open()
  const bad = (options: SubscriptionOptions) => () => subscribe(store, checkpoints, 'n', () => {}, options)
  expect(bad({ batch: 0 })).toThrow(/batch/)
  expect(bad({ leaseMs: 0 })).toThrow(/leaseMs/)
  expect(bad({ pollMs: Infinity })).toThrow(/pollMs/)
  expect(bad({ from: -1 })).toThrow(/from/)
  expect(bad({ from: new Date(NaN) })).toThrow(/from/)
  expect(bad({ retry: { attempts: 0 } })).toThrow(/attempts/)
  expect(bad({ retry: null as never })).toThrow(/^retry: /)
  expect(bad({ query: { items: [null as never] } })).toThrow(/^query.items: /)
  expect(() => subscribe(store, checkpoints, '', () => {})).toThrow(/name/)
})

test('nobody waits for what is no position, or no time', async () => {
  const { store, checkpoints } = open()
  const subscription = subscribe(store, checkpoints, 'n', () => {})
  await subscription.stop()
  const refused = (option: string) => ({ code: 'INVALID_OPTION', message: expect.stringContaining(option) as string })
  for (const position of [NaN, -1, 1.5, '1' as never])
    await expect(subscription.reached(position)).rejects.toMatchObject(refused('position'))
  for (const timeoutMs of [NaN, -1, '1' as never])
    await expect(subscription.reached(1, timeoutMs)).rejects.toMatchObject(refused('timeoutMs'))
})
