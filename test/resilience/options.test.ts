import { expect, test } from 'vitest'
import { CircuitBreaker, compose, exponential, retry, timeout } from '../../src/resilience/index.js'

/** What a caller without a compiler may hand over. */
const wrong = (value: unknown): never => value as never

test.each([
  ['options', () => new CircuitBreaker(wrong(5))],
  ['options', () => new CircuitBreaker(wrong(null))],
  ['options', () => retry(wrong(5))],
  ['options', () => exponential(wrong(100))],
  ['options', () => timeout(wrong(null))],
  ['isFailure', () => new CircuitBreaker({ isFailure: wrong(null) })],
  ['initialState', () => new CircuitBreaker({ initialState: wrong(null) })],
  ['clock', () => new CircuitBreaker({ clock: wrong(null) })],
  ['clock', () => retry({ clock: wrong(Date) })],
  ['clock', () => timeout({ ms: 1, clock: wrong(5) })],
  ['random', () => new CircuitBreaker({ random: wrong(0.5) })],
  ['random', () => retry({ random: wrong(0.5) })],
  ['listener', () => new CircuitBreaker().on('success', wrong(undefined))],
])('a mistake is found at once, and its option named: %s (%#)', (option, make) => {
  expect(make).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(`${option}: `) }),
  )
})

test('compose takes no gap for the end of the list', () => {
  expect(() => compose(wrong(undefined), timeout(1))).toThrow('policies[0]: expected an object, got undefined')
  expect(() => compose(timeout(1), wrong({}))).toThrow('policies[1]: expected a policy, got an object')
})

test.each([
  ['a circuit', new CircuitBreaker()],
  ['retry', retry()],
  ['timeout', timeout(1_000)],
  ['compose', compose(retry(), timeout(1_000))],
])('%s takes a signal of null, as fetch does, for none', async (_, policy) => {
  expect(await policy.execute(({ signal }) => signal.aborted, { signal: wrong(null) })).toBe(false)
})

const thrown = [
  undefined,
  null,
  'text',
  Symbol('s'),
  Object.freeze(new Error('frozen')),
  Object.create(null) as unknown,
  new Proxy(new Error('trap'), {
    get() {
      throw new Error('from the trap')
    },
  }),
  {
    get headers() {
      throw new Error('from the getter')
    },
  },
]

test.each(thrown.map((error, i) => ({ i, error })))(
  'whatever is thrown comes out and counts: $i',
  async ({ error }) => {
    const breaker = new CircuitBreaker({ initialState: { state: 'half-open' } })
    for (const policy of [breaker, retry({ backoff: () => 0 }), timeout(1_000)]) {
      const came = policy.execute((): unknown[] => {
        throw error
      })
      // In an array, for a promise would ask what it is given for its `then`.
      expect((await came.catch((e: unknown) => [e]))[0] === error).toBe(true)
    }
    expect(breaker.state).toBe('open')
  },
)
