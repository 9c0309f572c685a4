import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { CircuitBreaker, type HalfOpenOptions } from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { deferred, failing, ok } from './calls.js'

/** A circuit whose open time is just over: the next call is a trial. */
async function due(halfOpen: HalfOpenOptions): Promise<{ circuit: CircuitBreaker; clock: ManualClock }> {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: 100, halfOpen, clock })
  await circuit.execute(failing('boom')).catch(() => {})
  await clock.advance(100)
  return { circuit, clock }
}
const start = (circuit: CircuitBreaker, signal?: AbortSignal) => {
  const d = deferred()
  let runs = 0
  const done = circuit
    .execute(() => (runs++, d.promise), { signal })
    .then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    )
  return { ...d, done, began: () => runs > 0, runs: () => runs }
}

test('no more trials run than there are permits; the others are refused and told how long the oldest may still take', async () => {
  const { circuit, clock } = await due({ trials: 2, maxMs: 500 })
  const first = start(circuit)
  await clock.advance(20)
  const second = start(circuit)
  expect(await start(circuit).done).toMatchObject({
    error: { code: 'CIRCUIT_OPEN', message: 'circuit is half-open', retryAfterMs: 480, cause: { message: 'boom' } },
  })
  first.resolve('good')
  await first.done
  expect(await start(circuit).done).toMatchObject({ error: { code: 'CIRCUIT_OPEN', retryAfterMs: 500 } }) // both are used up
  second.resolve('good')
  await second.done
  expect(circuit.state).toBe('closed')
})

test.each([
  { order: ['f', 's', 's', 's'], ends: 'closed' },
  { order: ['s', 's', 's', 'f'], ends: 'closed' },
  { order: ['f', 'f', 's', 's'], ends: 'open' },
  { order: ['s', 's', 'f', 'f'], ends: 'open' },
  { order: ['s', 'f', 's', 'f'], ends: 'open' },
])('trials decide in any order of arrival alike: $order of 4 at 0.5 ends $ends', async ({ order, ends }) => {
  const { circuit } = await due({ trials: 4, failureRatio: 0.5 })
  const trials = order.map((result) => ({ result, ...start(circuit) }))
  for (const { result, resolve, reject, done } of trials) {
    if (result === 's') resolve('good')
    else reject(new Error('bad'))
    await done
  }
  expect(circuit.state).toBe(ends)
})

test('a share of trials that no binary fraction hits is met exactly', async () => {
  const { circuit } = await due({ trials: 100, failureRatio: 0.07 }) // 0.07 * 100 > 7
  const trials = Array.from({ length: 100 }, () => start(circuit))
  for (const { reject, done } of trials.slice(0, 7)) {
    expect(circuit.state).toBe('half-open')
    reject(new Error('bad'))
    await done
  }
  expect(circuit.state).toBe('open')
})

test('a trial that was aborted gives its permit back', async () => {
  const { circuit } = await due({})
  const controller = new AbortController()
  const aborted = start(circuit, controller.signal)
  controller.abort('enough')
  aborted.reject('enough')
  expect(await aborted.done).toEqual({ error: 'enough' })
  expect(circuit.state).toBe('half-open')
  await expect(circuit.execute(ok)).resolves.toBe('ok')
  expect(circuit.state).toBe('closed')
})

test('a trial that never settles re-opens the circuit after maxMs, counted from then even if nobody looks', async () => {
  const { circuit, clock } = await due({ maxMs: 1_000 })
  const hung = start(circuit)
  await clock.advance(999)
  expect(circuit.state).toBe('half-open')
  await clock.advance(31) // 30 ms of the open time have passed unseen
  expect(await start(circuit).done).toMatchObject({ error: { message: 'circuit is open', retryAfterMs: 70 } })
  await clock.advance(70)
  const next = start(circuit)
  expect(next.began()).toBe(true)
  hung.reject(new Error('late'))
  await hung.done
  expect(circuit.state).toBe('half-open')
  next.resolve('good')
  await next.done
  expect(circuit.state).toBe('closed')
})

test('a trial that succeeds too late does not close the circuit, also when nobody looked meanwhile', async () => {
  const { circuit, clock } = await due({ maxMs: 1_000 })
  const slow = start(circuit)
  await clock.advance(1_000)
  slow.resolve('late')
  await slow.done
  expect(circuit.state).toBe('open')
})

test('trials one after the other, each in time, may take longer together than maxMs', async () => {
  const { circuit, clock } = await due({ trials: 3, maxMs: 100 })
  for (let i = 0; i < 3; i++) {
    await clock.advance(90)
    await circuit.execute(() => clock.advance(90))
  }
  expect(circuit.state).toBe('closed')
})

test('slow trials open the circuit again at the share of its window', async () => {
  const clock = new ManualClock()
  const window = { kind: 'count', size: 4, minimumCalls: 2, failureRatio: 1, slowCallMs: 50, slowRatio: 0.5 } as const
  const circuit = new CircuitBreaker({ window, openMs: 100, halfOpen: { trials: 2 }, clock })
  for (let i = 0; i < 2; i++) await circuit.execute(() => clock.advance(50))
  expect(circuit.state).toBe('open')
  await clock.advance(100)
  await circuit.execute(ok)
  await circuit.execute(() => clock.advance(60))
  expect(circuit.state).toBe('open')
})

test('those who wait for a trial start in order once it has succeeded, and leave no timer', async () => {
  const { circuit, clock } = await due({ others: { waitMs: 50 } })
  const trial = start(circuit)
  const waiters = [start(circuit), start(circuit)]
  expect(waiters.map((w) => w.began())).toEqual([false, false])
  expect(clock.pendingTimers).toBe(2)
  trial.resolve('good')
  await trial.done
  expect(waiters.map((w) => w.began())).toEqual([true, true])
  expect(clock.pendingTimers).toBe(0)
  circuit.isolate()()
  expect(waiters.map((w) => w.runs())).toEqual([1, 1])
  for (const waiter of waiters) waiter.resolve('in')
  expect(await Promise.all(waiters.map((w) => w.done))).toEqual([{ value: 'in' }, { value: 'in' }])
})

test('those who wait are all refused at once when the trial fails', async () => {
  const { circuit, clock } = await due({ others: { waitMs: 50 } })
  const trial = start(circuit)
  const waiters = [start(circuit), start(circuit)]
  trial.reject(new Error('still down'))
  for (const waiter of waiters) {
    expect(await waiter.done).toMatchObject({ error: { code: 'CIRCUIT_OPEN', retryAfterMs: 100 } })
    expect(waiter.began()).toBe(false)
  }
  expect(clock.pendingTimers).toBe(0)
})

test('a permit that comes back goes to the one who has waited longest, and to nobody else', async () => {
  const { circuit, clock } = await due({ others: { waitMs: 50 } })
  const controller = new AbortController()
  const trial = start(circuit, controller.signal)
  const waiters = [start(circuit), start(circuit), start(circuit)]
  controller.abort()
  trial.reject(new Error('aborted'))
  await trial.done
  expect(waiters.map((w) => w.began())).toEqual([true, false, false])
  await clock.advance(50)
  expect(await waiters[1]!.done).toMatchObject({ error: { code: 'CIRCUIT_OPEN' } })
  waiters[0]!.resolve('good')
  expect(await waiters[0]!.done).toEqual({ value: 'good' })
})

test('a wait is bounded, also behind a trial that hangs, and by an abort', async () => {
  const { circuit, clock } = await due({ others: { waitMs: 50 }, maxMs: 1_000 })
  start(circuit)
  const controller = new AbortController()
  const bounded = start(circuit)
  const aborted = start(circuit, controller.signal)
  controller.abort('enough')
  expect(await aborted.done).toEqual({ error: 'enough' })
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
  await clock.advance(50)
  expect(await bounded.done).toMatchObject({ error: { code: 'CIRCUIT_OPEN', retryAfterMs: 950 } })
  expect(aborted.began() || bounded.began()).toBe(false)
  expect(clock.pendingTimers).toBe(0)
})

test('who waits longer than the trial may hang, and the circuit stays open then, is the next trial', async () => {
  const { circuit, clock } = await due({ others: { waitMs: 500 }, maxMs: 300 })
  start(circuit)
  const waiter = start(circuit)
  await clock.advance(500)
  expect(waiter.began()).toBe(true)
  waiter.resolve('good')
  await waiter.done
  expect(circuit.state).toBe('closed')
})

test('attempt waits too, and returns the refusal at the end', async () => {
  const { circuit, clock } = await due({ others: { waitMs: 50 } })
  start(circuit)
  const result = circuit.attempt(ok)
  await clock.advance(50)
  expect(await result).toMatchObject({ ok: false, error: { code: 'CIRCUIT_OPEN' } })
})

test('an open circuit holds no timer, and reads the time only when somebody calls', async () => {
  const { circuit, clock } = await due({ maxMs: 10 })
  start(circuit)
  await settle()
  expect(clock.pendingTimers).toBe(0)
  await clock.advance(1_000_000)
  expect(circuit.state).toBe('open')
})

test('the signal of a call that has waited for its trial still follows the caller’s', async () => {
  const clock = new ManualClock()
  const breaker = new CircuitBreaker({
    clock,
    initialState: { state: 'half-open' },
    halfOpen: { others: { waitMs: 500 } },
  })
  const first = deferred()
  const trial = breaker.execute(() => first.promise)
  const controller = new AbortController()
  const waiting = breaker.execute(
    ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    { signal: controller.signal },
  )
  first.resolve('ok')
  await trial
  await settle()
  controller.abort('enough')
  await expect(waiting).rejects.toBe('enough')
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
})

test('a call that waits runs once, also when the trials before it have hung past the next open time', async () => {
  const clock = new ManualClock()
  const breaker = new CircuitBreaker({
    clock,
    openMs: 50,
    initialState: { state: 'half-open' },
    halfOpen: { trials: 2, maxMs: 100, others: { waitMs: 1_000 } },
  })
  void breaker.execute(() => new Promise(() => {}))
  void breaker.execute(() => new Promise(() => {}))
  let runs = 0
  const waiting = breaker.execute(() => ++runs)
  await clock.advance(1_000)
  await expect(waiting).resolves.toBe(1)
  expect([runs, clock.pendingTimers]).toEqual([1, 0])
})

test('a call that waits runs once, also when a listener resets the circuit as it enters', async () => {
  const clock = new ManualClock()
  const breaker = new CircuitBreaker({
    clock,
    openMs: 50,
    initialState: { state: 'half-open' },
    halfOpen: { maxMs: 100, others: { waitMs: 1_000 } },
  })
  breaker.on('stateChange', ({ to }) => to === 'half-open' && breaker.reset())
  void breaker.execute(() => new Promise(() => {}))
  const runs = [0, 0]
  const waiting = runs.map((_, i) => breaker.execute(() => ++runs[i]!))
  await clock.advance(1_000)
  expect(await Promise.all(waiting)).toEqual([1, 1])
  expect(runs).toEqual([1, 1])
})

test('any number of calls that wait may enter and end at once', async () => {
  const clock = new ManualClock()
  const breaker = new CircuitBreaker({
    clock,
    initialState: { state: 'half-open' },
    halfOpen: { others: { waitMs: 500 } },
    isFailure: () => 'ignore',
  })
  const first = deferred()
  const trial = breaker.execute(() => first.promise)
  const waiting = Array.from({ length: 20_000 }, () =>
    breaker.execute(() => {
      throw new Error('at once')
    }),
  )
  first.resolve('ok')
  await trial
  expect(new Set((await Promise.allSettled(waiting)).map(({ status }) => status))).toEqual(new Set(['rejected']))
  expect(clock.pendingTimers).toBe(0)
})

test('a call passes when a listener resets the circuit that has just opened behind a hung trial', async () => {
  const clock = new ManualClock()
  const breaker = new CircuitBreaker({ clock, initialState: { state: 'half-open' }, halfOpen: { maxMs: 100 } })
  breaker.on('stateChange', ({ to }) => to === 'open' && breaker.reset())
  void breaker.execute(() => new Promise(() => {}))
  await clock.advance(100)
  await expect(breaker.execute(() => 'ran')).resolves.toBe('ran')
})

test('a call that a listener aborts as the trials begin does not start, and takes no permit', async () => {
  const { circuit } = await due({})
  const controller = new AbortController()
  circuit.on('stateChange', () => controller.abort('enough'))
  const first = start(circuit, controller.signal)
  expect(await first.done).toEqual({ error: 'enough' })
  expect(first.began()).toBe(false)
  await circuit.execute(ok)
  expect(circuit.state).toBe('closed')
})

test('a call that waits, and that a listener aborts as it is to enter, does not start; the next one does', async () => {
  const { circuit, clock } = await due({ maxMs: 50, others: { waitMs: 500 } })
  start(circuit)
  const controller = new AbortController()
  const waits = start(circuit, controller.signal)
  await clock.advance(1)
  const behind = start(circuit)
  const told: unknown[] = []
  circuit.on('refused', (event) => told.push(event))
  circuit.on('stateChange', ({ to }) => to === 'half-open' && controller.abort('enough'))
  await clock.advance(499)
  expect(await waits.done).toEqual({ error: 'enough' })
  expect([waits.began(), behind.began(), told]).toEqual([false, true, []])
  behind.resolve('good')
  expect(await behind.done).toEqual({ value: 'good' })
  expect(clock.pendingTimers).toBe(0)
})
