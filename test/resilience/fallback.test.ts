import { expect, expectTypeOf, test } from 'vitest'
import {
  CircuitBreaker,
  compose,
  constant,
  fallback,
  InvalidOptionError,
  retry,
  timeout,
  type FallbackPolicy,
  type Policy,
} from '../../src/resilience/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { failing, ok } from './calls.js'

test('an error becomes the value made from it; a success stays what it is', async () => {
  const policy = fallback((error) => `instead of ${(error as Error).message}`)
  await expect(policy.execute(ok)).resolves.toBe('ok')
  await expect(policy.execute(failing('this'))).resolves.toBe('instead of this')
  await expect(
    policy.execute(() => {
      throw new Error('at once')
    }),
  ).resolves.toBe('instead of at once')
  await expect(fallback(async () => 7).execute(failing('x'))).resolves.toBe(7)
  await expect(policy.wrap((n: number) => (n ? failing('n')() : 'zero'))(1)).resolves.toBe('instead of n')
})

test('refusals, timeouts and the last error of a retry fall back', async () => {
  const clock = new ManualClock()
  const open = new CircuitBreaker({ clock, initialState: { state: 'open' } })
  const seen: unknown[] = []
  const value = (error: unknown) => void seen.push((error as { code?: string; message: string }).code ?? String(error))
  expect(await compose(fallback(value), open).attempt(ok)).toEqual({ ok: true, value: undefined })
  await compose(fallback(value), retry({ backoff: constant(0), clock })).execute(failing('last'))
  const late = compose(fallback(value), timeout({ ms: 10, clock })).execute(() => new Promise(() => {}))
  await clock.advance(10)
  await late
  expect(seen).toEqual(['CIRCUIT_OPEN', 'Error: last', 'TIMEOUT'])
})

test('the caller’s abort never falls back', async () => {
  const controller = new AbortController()
  const policy = fallback(() => 'instead')
  const running = policy.execute(
    ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    { signal: controller.signal },
  )
  controller.abort('enough')
  await expect(running).rejects.toBe('enough')
  await expect(policy.execute(ok, { signal: controller.signal })).rejects.toBe('enough')
})

test('by default a mistake of the caller comes out; fallbackOn decides otherwise', async () => {
  const mistake = () => Promise.reject(new InvalidOptionError('wrong'))
  await expect(fallback(() => 'instead').execute(mistake)).rejects.toThrow('wrong')
  await expect(fallback(() => 'instead', { fallbackOn: () => true }).execute(mistake)).resolves.toBe('instead')
  const only = fallback(() => 'instead', { fallbackOn: (error) => (error as Error).message === 'this' })
  await expect(only.execute(failing('that'))).rejects.toThrow('that')
  const open = new CircuitBreaker({ initialState: { state: 'open' } })
  expect(await compose(only, open).attempt(ok)).toMatchObject({ ok: false, error: { code: 'CIRCUIT_OPEN' } })
})

test('what the fallback throws comes out', async () => {
  const policy = fallback(() => {
    throw new Error('worse')
  })
  await expect(policy.execute(failing('bad'))).rejects.toThrow('worse')
})

test('the types of a composition say what may come out', () => {
  const circuit = new CircuitBreaker()
  expectTypeOf(compose(retry(), circuit)).toEqualTypeOf<Policy>()
  expectTypeOf(compose()).toEqualTypeOf<Policy>()
  const last = compose(
    fallback(() => 'none' as const),
    retry(),
    circuit,
  )
  expectTypeOf(last).toEqualTypeOf<FallbackPolicy<'none'>>()
  expectTypeOf(
    compose(
      last,
      fallback(() => null),
    ),
  ).toEqualTypeOf<FallbackPolicy<'none' | null>>()
  expectTypeOf(last.execute(() => 1)).toEqualTypeOf<Promise<'none' | number>>()
  expectTypeOf(last.wrap((a: string) => a.length)).toEqualTypeOf<(a: string) => Promise<'none' | number>>()
  // @ts-expect-error a number would be a lie
  expectTypeOf(last.execute(() => 1)).toEqualTypeOf<Promise<number>>()
})

test('options: functions', () => {
  expect(() => fallback('value' as never)).toThrow('value: expected a function, got "value"')
  expect(() => fallback(ok, { fallbackOn: 1 as never })).toThrow('fallbackOn: expected a function, got 1')
})
