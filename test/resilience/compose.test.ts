import { getEventListeners } from 'node:events'
import { expect, test, vi } from 'vitest'
import {
  CircuitBreaker,
  compose,
  constant,
  isHoldfastError,
  RejectedError,
  retry,
  timeout,
  type OperationContext,
  type Policy,
} from '../../src/resilience/index.js'
import { attemptOf, policyOf, wrapWith } from '../../src/kernel/policy.js'
import { ManualClock } from '../../src/testing/index.js'
import { failing, ok } from './calls.js'

const tracing = (name: string, log: string[]): Policy =>
  policyOf(async (operation, options) => {
    log.push(`${name} in`)
    try {
      return await operation({ signal: options?.signal ?? new AbortController().signal, attempt: 1 })
    } finally {
      log.push(`${name} out`)
    }
  })

test('the first policy is the outermost, and compositions compose', async () => {
  const log: string[] = []
  const policy = compose(tracing('a', log), compose(tracing('b', log), tracing('c', log)))
  await expect(policy.execute(() => log.push('run'))).resolves.toBe(4)
  expect(log).toEqual(['a in', 'b in', 'c in', 'run', 'c out', 'b out', 'a out'])
})

test('without policies it only runs the operation', async () => {
  await expect(compose().execute(({ attempt }) => attempt)).resolves.toBe(1)
  expect(await compose().attempt(ok)).toEqual({ ok: true, value: 'ok' })
  await expect(
    compose().execute(() => {
      throw new Error('at once')
    }),
  ).rejects.toThrow('at once')
})

test('the operation sees the number of the try and a signal of that try alone, through all layers', async () => {
  const clock = new ManualClock()
  const contexts: OperationContext[] = []
  const policy = compose(
    retry({ backoff: constant(0), clock }),
    new CircuitBreaker({ clock }),
    timeout({ ms: 50, clock }),
  )
  const result = policy.execute((context) => {
    contexts.push(context)
    void context.signal
    return contexts.length === 1 ? new Promise(() => {}) : ok()
  })
  await clock.advance(50)
  await expect(result).resolves.toBe('ok')
  expect(contexts.map((c) => c.attempt)).toEqual([1, 2])
  expect(contexts.map((c) => c.signal.aborted)).toEqual([true, false])
  expect(isHoldfastError(contexts[0]!.signal.reason, 'TIMEOUT')).toBe(true)
  expect(clock.pendingTimers).toBe(0)
})

test('a retry inside a retry numbers its own tries', async () => {
  const seen: number[] = []
  const twice = (): Policy => retry({ attempts: 2, backoff: constant(0) })
  await expect(
    compose(twice(), twice()).execute(({ attempt }) => (seen.push(attempt), failing('no')())),
  ).rejects.toThrow('no')
  expect(seen).toEqual([1, 2, 1, 2])
})

test('a timeout inside a circuit counts as a failure, one around it as an abort by the caller', async () => {
  const clock = new ManualClock()
  const make = () => new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, clock })
  const [inside, around] = [make(), make()]
  const hang = ({ signal }: OperationContext) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  const results = [
    compose(inside, timeout({ ms: 10, clock })).execute(hang),
    compose(timeout({ ms: 10, clock }), around).execute(hang),
  ].map((r) => r.catch((e: unknown) => isHoldfastError(e, 'TIMEOUT')))
  await clock.advance(10)
  expect(await Promise.all(results)).toEqual([true, true])
  expect([inside.state, around.state]).toEqual(['open', 'closed'])
})

test('an abort passes down through every layer and leaves nothing behind', async () => {
  const clock = new ManualClock()
  const controller = new AbortController()
  const policy = compose(
    timeout({ ms: 900, clock }),
    retry({ clock }),
    new CircuitBreaker({ clock }),
    timeout({ ms: 50, clock }),
  )
  let inner: AbortSignal | undefined
  const result = policy.execute(({ signal }) => ((inner = signal), new Promise(() => {})), {
    signal: controller.signal,
  })
  expect(clock.pendingTimers).toBe(2)
  controller.abort('enough')
  await expect(result).rejects.toBe('enough')
  expect(inner!.reason).toBe('enough')
  await clock.advance(0)
  expect(clock.pendingTimers).toBe(0)
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
})

test('two hundred calls at once under one signal that read theirs raise no warning and leave no listener', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const { signal } = new AbortController()
  const policies = [
    compose(retry(), new CircuitBreaker(), timeout(1_000)),
    new CircuitBreaker(),
    retry(),
    timeout(1_000),
  ]
  for (const policy of policies) {
    const calls = Array.from({ length: 200 }, () =>
      policy.execute(
        (context) => {
          context.signal.addEventListener('abort', () => {})
          return ok()
        },
        { signal },
      ),
    )
    expect(getEventListeners(signal, 'abort')).toHaveLength(1)
    await Promise.all(calls)
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  }
  expect(warn).not.toHaveBeenCalled()
  warn.mockRestore()
})

test('a call whose signal nobody reads makes none, through all layers', async () => {
  let made = 0
  const Real = globalThis.AbortController
  globalThis.AbortController = class extends Real {
    constructor() {
      super()
      made++
    }
  }
  try {
    const policy = compose(timeout(900), retry(), new CircuitBreaker(), timeout(1_000))
    await policy.execute(ok)
    await policy.execute(({ signal }) => signal.aborted)
  } finally {
    globalThis.AbortController = Real
  }
  expect(made).toBe(1)
})

test('policies of others fit in: they get a signal, and their refusals come back as values', async () => {
  class Full extends RejectedError {
    readonly code = 'FULL'
  }
  let free = 1
  const execute: Policy['execute'] = async (operation, options) => {
    if (options?.signal?.aborted) throw options.signal.reason
    if (free-- <= 0) throw new Full('no room', 20)
    return operation({ signal: options?.signal ?? new AbortController().signal, attempt: 1 })
  }
  const gate: Policy = {
    execute,
    attempt: (operation, options) => attemptOf(execute(operation, options)),
    wrap: (fn) => wrapWith(execute, fn),
  }
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 } })
  const policy = compose(circuit, gate, timeout(1_000))
  expect(await policy.attempt(ok)).toEqual({ ok: true, value: 'ok' })
  expect(await policy.attempt(ok)).toMatchObject({ ok: false, error: { code: 'FULL', retryAfterMs: 20 } })
  expect(circuit.state).toBe('closed')
})

test('wrap passes arguments and this on', async () => {
  const cart = {
    tax: 2,
    total: compose(retry(), timeout(1_000)).wrap(function (this: { tax: number }, net: number) {
      return net + this.tax
    }),
  }
  await expect(cart.total(40)).resolves.toBe(42)
})

test('without policies an abort still comes before the start, and no listener is left', async () => {
  const controller = new AbortController()
  const { signal } = controller
  const seen = await compose().execute((context) => context.signal, { signal })
  expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  controller.abort('enough')
  expect(seen.aborted).toBe(false)
  let ran = false
  await expect(compose().execute(() => (ran = true), { signal })).rejects.toBe('enough')
  expect(ran).toBe(false)
})
