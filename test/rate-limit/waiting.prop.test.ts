import { describe, expect } from 'vitest'
import { RateLimitedError, TokenBucket } from '../../src/rate-limit/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { TextbookBucket } from './textbook.js'

const make = (options: { capacity?: number; refillPerSecond?: number; initial?: number } = {}) => {
  const clock = new ManualClock({ now: 12_345.678 })
  return { clock, bucket: new TokenBucket({ capacity: 5, refillPerSecond: 10, ...options, clock }) }
}

describe('TokenBucket.take', () => {
  prop(
    'every waiter is served in order as soon as a textbook bucket could, and aborted ones leave no trace',
    [
      fc.array(
        fc.record({
          cost: fc.integer({ min: 1, max: 5 }),
          after: fc.integer({ min: 0, max: 400 }),
          abortAfter: fc.option(fc.integer({ min: 0, max: 900 }), { nil: undefined }),
        }),
        { maxLength: 25 },
      ),
    ],
    async (calls) => {
      const { bucket, clock } = make({ initial: 2 })
      const model = new TextbookBucket(5, [10, 1], 2)
      const start = clock.now()
      const waiting: { cost: number; i: number }[] = []
      const expected: number[] = []
      const served: number[] = []
      /** Serves the model's queue up to the time now. */
      const serve = (micros: number): void => {
        model.at(micros)
        while (waiting[0] && model.tryTake(waiting[0].cost)) expected.push(waiting.shift()!.i)
      }
      const aborts = calls.map(() => new AbortController())
      let at = 0
      const events = calls.flatMap(({ cost, after, abortAfter }, i) => {
        at += after
        const call = { at, run: () => (waiting.push({ cost, i }), start1(cost, i)) }
        return abortAfter === undefined ? [call] : [call, { at: at + abortAfter, run: () => abort(i) }]
      })
      const start1 = (cost: number, i: number): void => {
        bucket.take(cost, { signal: aborts[i]!.signal }).then(
          () => served.push(i),
          () => {},
        )
      }
      const abort = (i: number): void => {
        aborts[i]!.abort()
        const place = waiting.findIndex((w) => w.i === i)
        if (place >= 0) waiting.splice(place, 1)
      }
      events.sort((a, b) => a.at - b.at)
      for (let ms = 0; ms <= (events.at(-1)?.at ?? 0) + 14_000; ms += 100) {
        serve(ms * 1e3) // timers fire on the way here, before anything new happens
        for (const event of events.filter((e) => e.at > ms - 100 && e.at <= ms)) {
          event.run()
          serve(ms * 1e3)
        }
        await settle()
        expect(served).toEqual(expected)
        if (events.every((e) => e.at <= ms) && waiting.length === 0) break
        await clock.advance(start + ms + 100 - clock.now())
      }
      expect(waiting).toEqual([])
      expect(clock.pendingTimers).toBe(0)
    },
    { numRuns: 60 },
  )

  prop(
    'in whatever order calls, aborts and the clock take turns: first come, first served, as soon as there are tokens, within maxWaiters',
    [
      fc.scheduler(),
      fc.array(fc.record({ cost: fc.integer({ min: 1, max: 5 }), aborts: fc.boolean() }), { maxLength: 15 }),
      fc.integer({ min: 0, max: 6 }),
    ],
    async (scheduler, calls, maxWaiters) => {
      const { bucket, clock } = make({ initial: 3 })
      const model = new TextbookBucket(5, [10, 1], 3)
      const start = clock.now()
      const queue: { cost: number; i: number }[] = []
      const expected: string[] = []
      const ended: string[] = []
      const serve = (): void => {
        model.at(Math.round((clock.now() - start) * 1e3))
        while (queue[0] && model.tryTake(queue[0].cost)) expected.push(`${queue.shift()!.i} served`)
      }
      const controllers = calls.map(() => new AbortController())
      const call = ({ cost }: { cost: number }, i: number): void => {
        if (controllers[i]!.signal.aborted) expected.push(`${i} aborted`)
        else if (queue.length === 0 && model.tryTake(cost)) expected.push(`${i} served`)
        else if (queue.length >= maxWaiters) expected.push(`${i} refused`)
        else queue.push({ cost, i })
        bucket.take(cost, { signal: controllers[i]!.signal, maxWaiters }).then(
          () => ended.push(`${i} served`),
          (error) => ended.push(`${i} ${error instanceof RateLimitedError ? 'refused' : 'aborted'}`),
        )
      }
      const abort = (i: number): void => {
        const place = queue.findIndex((one) => one.i === i)
        if (place >= 0) expected.push(`${i} aborted`)
        if (place >= 0) queue.splice(place, 1)
        controllers[i]!.abort()
      }
      const turn = (label: string, act: () => unknown): void =>
        void scheduler.schedule(Promise.resolve(), label).then(act)
      for (const [i, one] of calls.entries()) {
        turn(`call ${i}`, () => call(one, i))
        if (one.aborts) turn(`abort ${i}`, () => abort(i))
        turn(`tick ${i}`, () => clock.advance(100))
      }
      for (let left = scheduler.count(); left > 0; left--) {
        await scheduler.waitNext(1)
        await settle()
        serve()
        expect(ended).toEqual(expected)
        expect(bucket.available).toBe(queue.length > 0 ? 0 : Number(model.tokens))
      }
      for (let ms = 0; queue.length > 0; ms += 100) {
        expect(ms).toBeLessThan(calls.length * 500)
        await clock.advance(100)
        serve()
        expect(ended).toEqual(expected)
      }
      expect(clock.pendingTimers).toBe(0)
    },
  )
})
