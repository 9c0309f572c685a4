import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { bulkhead, isHoldfastError, isRejectedError, type BulkheadOptions } from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { deferred, failing, ok } from './calls.js'

test('so many calls run at once, and those beyond are refused at once', async () => {
  const limit = bulkhead({ maxConcurrent: 2 })
  const held = deferred()
  const running = [limit.execute(() => held.promise), limit.execute(() => held.promise)]
  expect([limit.running, limit.queued]).toEqual([2, 0])
  let ran = false
  const refused: unknown = await limit.execute(() => (ran = true)).catch((error: unknown) => error)
  expect(isHoldfastError(refused, 'BULKHEAD_FULL') && isRejectedError(refused)).toBe(true)
  expect((refused as Error).message).toBe('bulkhead is full: 2 running, 0 waiting')
  expect((refused as Error).name).toBe('BulkheadFullError')
  expect(await limit.attempt(ok)).toMatchObject({ ok: false, error: { code: 'BULKHEAD_FULL' } })
  expect(ran).toBe(false)
  held.resolve('ok')
  await Promise.all(running)
  expect(limit.running).toBe(0)
  expect(await limit.attempt(ok)).toEqual({ ok: true, value: 'ok' })
})

test('a place comes back from a value, a promise, an error and an error at once', async () => {
  const limit = bulkhead({ maxConcurrent: 1 })
  await expect(limit.execute(() => 'plain')).resolves.toBe('plain')
  await expect(limit.execute(ok)).resolves.toBe('ok')
  await expect(limit.execute(failing('no'))).rejects.toThrow()
  await expect(
    limit.execute(() => {
      throw new Error('at once')
    }),
  ).rejects.toThrow('at once')
  expect(limit.running).toBe(0)
})

// cockatiel rejects a call that waits when a newcomer comes as its place gets free.
test('a newcomer never takes the place of one who waits, whenever it comes', async () => {
  for (let hops = 0; hops < 12; hops++) {
    const limit = bulkhead({ maxConcurrent: 1, maxQueued: 1 })
    const held = deferred()
    const order: string[] = []
    const first = limit.execute(() => held.promise)
    const queued = limit.execute(() => void order.push('queued'))
    held.resolve('ok')
    for (let hop = 0; hop < hops; hop++) await Promise.resolve()
    const newcomer = limit.execute(() => void order.push('newcomer'))
    await Promise.all([first, queued, newcomer.catch(() => order.push('refused'))])
    expect(order.filter((who) => who !== 'refused')[0]).toBe('queued')
  }
})

// cockatiel keeps the place of an aborted call in its queue.
test('a call that is aborted while it waits leaves at once, and its place in the line is free', async () => {
  const limit = bulkhead({ maxConcurrent: 1, maxQueued: 1 })
  const held = deferred()
  const first = limit.execute(() => held.promise)
  const controller = new AbortController()
  let ran = false
  const queued = limit.execute(() => (ran = true), { signal: controller.signal })
  controller.abort('enough')
  await expect(queued).rejects.toBe('enough')
  expect(limit.queued).toBe(0)
  const next = limit.execute(() => 'next')
  held.resolve('ok')
  await first
  await expect(next).resolves.toBe('next')
  expect(ran).toBe(false)
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
  await expect(limit.execute(ok, { signal: controller.signal })).rejects.toBe('enough')
})

test('a call that has waited too long is refused, and leaves no timer', async () => {
  const clock = new ManualClock()
  const limit = bulkhead({ maxConcurrent: 1, maxQueued: 2, queueTimeoutMs: 100, clock })
  const seen: unknown[] = []
  limit.on('queued', (event) => seen.push(event))
  limit.on('refused', (event) => seen.push(event))
  const held = deferred()
  const first = limit.execute(() => held.promise)
  const late = limit.attempt(ok)
  await clock.advance(60)
  const inTime = limit.execute(ok)
  await clock.advance(40)
  expect(await late).toMatchObject({
    ok: false,
    error: { message: 'bulkhead is full: no place came free within 100 ms' },
  })
  held.resolve('ok')
  await Promise.all([first, inTime])
  expect([clock.pendingTimers, limit.running, limit.queued]).toEqual([0, 0, 0])
  expect(seen).toEqual([
    { running: 1, queued: 1 },
    { running: 1, queued: 2 },
    { running: 1, queued: 1, waitedMs: 100 },
  ])
})

test('what runs is not refused by its own inner call when a place is free for it', async () => {
  const limit = bulkhead({ maxConcurrent: 2 })
  await expect(limit.execute(() => limit.execute(ok))).resolves.toBe('ok')
})

test('a hundred thousand calls wait and leave, from the middle too, in no more than linear time', async () => {
  const limit = bulkhead({ maxConcurrent: 1, maxQueued: Infinity })
  const held = deferred()
  const first = limit.execute(() => held.promise)
  const stop = new AbortController()
  let ran = 0
  const all = Array.from({ length: 100_000 }, (_, i) =>
    limit.execute(() => void ran++, i % 2 ? { signal: stop.signal } : undefined),
  )
  stop.abort(new Error('stop'))
  held.resolve('ok')
  await first
  await Promise.allSettled(all)
  expect([ran, limit.running, limit.queued]).toEqual([50_000, 0, 0])
})

test.each([
  [{}, 'maxConcurrent: expected an integer ≥ 1, got undefined'],
  [{ maxConcurrent: 0 }, 'maxConcurrent: expected an integer ≥ 1, got 0'],
  [{ maxConcurrent: 1, maxQueued: -1 }, 'maxQueued: expected an integer ≥ 0, got -1'],
  [{ maxConcurrent: 1, queueTimeoutMs: 0 }, 'queueTimeoutMs: expected a number > 0, got 0'],
  [{ maxConcurrent: 1, queueTimeoutMs: NaN }, 'queueTimeoutMs: expected a number ≥ 0, got NaN'],
  [{ maxConcurrent: 1, clock: {} }, 'clock.now: expected a function, got undefined'],
])('options %j: %s', (options, message) => {
  expect(() => bulkhead(options as BulkheadOptions)).toThrow(message)
})

interface Step {
  readonly kind: 'call' | 'end' | 'fail' | 'abort' | 'wait'
  readonly which: number
}

prop(
  'in any order of calls, ends, aborts and waits: first come, first served, never too many, and every place comes back',
  [
    fc.integer({ min: 1, max: 3 }),
    fc.integer({ min: 0, max: 4 }),
    fc.array(
      fc.record<Step>({
        kind: fc.constantFrom('call', 'call', 'end', 'fail', 'abort', 'wait'),
        which: fc.nat({ max: 9 }),
      }),
      { maxLength: 40 },
    ),
    fc.scheduler(),
  ],
  async (maxConcurrent, maxQueued, steps, scheduler) => {
    const clock = new ManualClock()
    const limit = bulkhead({ maxConcurrent, maxQueued, queueTimeoutMs: 50, clock })
    const calls: { id: number; abort: AbortController; done: ReturnType<typeof deferred>; state: string }[] = []
    const queue: number[] = [] // the textbook line
    const starts: number[] = []
    let most = 0

    const apply = async ({ kind, which }: Step): Promise<void> => {
      if (kind === 'call') {
        const call = { id: calls.length, abort: new AbortController(), done: deferred(), state: 'waits' }
        calls.push(call)
        const full = limit.running >= maxConcurrent
        if (full && limit.queued < maxQueued) queue.push(call.id)
        else if (!full) expect(queue).toEqual([]) // nobody waits while a place is free
        const result = limit.execute(
          () => {
            if (queue[0] === call.id) queue.shift()
            else expect(queue).not.toContain(call.id) // overtaken
            call.state = 'runs'
            starts.push(call.id)
            most = Math.max(most, limit.running)
            return call.done.promise
          },
          { signal: call.abort.signal },
        )
        result.then(
          () => (call.state = 'ended'),
          () => {
            call.state = 'ended'
            if (queue.includes(call.id)) queue.splice(queue.indexOf(call.id), 1)
          },
        )
        return
      }
      if (kind === 'wait') return clock.advance(which * 10)
      const call = calls[which % Math.max(1, calls.length)]
      if (kind === 'abort') {
        call?.abort.abort('stop')
        if (call && queue.includes(call.id)) queue.splice(queue.indexOf(call.id), 1)
      } else if (call?.state === 'runs') {
        if (kind === 'end') call.done.resolve('ok')
        else call.done.reject(new Error('failed'))
      }
      if (limit.queued > 0) expect(limit.running).toBeLessThanOrEqual(maxConcurrent)
    }

    for (const [i, step] of steps.entries()) {
      void scheduler.schedule(Promise.resolve(), `${i} ${step.kind}`).then(() => apply(step))
      if (i % 3 === 2) await scheduler.waitAll()
    }
    await scheduler.waitAll()
    await settle()
    for (const call of calls) call.done.resolve('ok')
    await clock.advance(50)
    for (const call of calls) call.done.resolve('ok')
    await settle()
    expect(most).toBeLessThanOrEqual(maxConcurrent)
    expect([limit.running, limit.queued, clock.pendingTimers]).toEqual([0, 0, 0])
    expect(calls.filter(({ state }) => state !== 'ended')).toEqual([])
    expect(starts).toEqual(starts.toSorted((a, b) => a - b)) // in the order they came
    for (const { abort } of calls) expect(getEventListeners(abort.signal, 'abort')).toEqual([])
  },
)
