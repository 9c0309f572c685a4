import { expect } from 'vitest'
import {
  CircuitBreaker,
  isHoldfastError,
  type CircuitInitialState,
  type CircuitOpenError,
} from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { TextbookCircuit, type Config, type Ending } from './textbook-circuit.js'

/** One call of the circuit under test. */
interface RealCall {
  ran: boolean
  ended: boolean
  /** What it was told, if it was refused. */
  refusal: { retryAfterMs: number | undefined } | undefined
  end(as: Ending): void
}

/** The circuit under test, and what its calls have come to. */
class Real {
  readonly clock = new ManualClock()
  readonly calls: RealCall[] = []
  readonly releases: (() => void)[] = []
  circuit: CircuitBreaker

  constructor(readonly config: Config) {
    this.circuit = this.make(undefined)
  }

  make(initialState: CircuitInitialState | undefined): CircuitBreaker {
    const { window, openMs, trials, failureRatio, maxMs, waitMs } = this.config
    return new CircuitBreaker({
      window,
      openMs,
      halfOpen: { trials, failureRatio, maxMs, others: waitMs === undefined ? 'reject' : { waitMs } },
      isFailure: ({ error, value }) => (value === 'ignored' ? 'ignore' : error !== undefined),
      initialState,
      clock: this.clock,
    })
  }

  start(): void {
    const controller = new AbortController()
    let finish: (as: Ending) => void = () => {}
    const call: RealCall = {
      ran: false,
      ended: false,
      refusal: undefined,
      end(as) {
        if (as !== 'aborted') finish(as)
        if (as.startsWith('aborted')) controller.abort('enough')
      },
    }
    this.calls.push(call)
    const operation = ({ signal }: { signal: AbortSignal }): Promise<unknown> => {
      call.ran = true
      return new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
        finish = (as) => (as === 'failure' ? reject(new Error('failed')) : resolve(as))
      })
    }
    this.circuit.execute(operation, { signal: controller.signal }).then(
      () => (call.ended = true),
      (error: unknown) => {
        call.ended = true
        if (isHoldfastError(error, 'CIRCUIT_OPEN'))
          call.refusal = { retryAfterMs: (error as CircuitOpenError).retryAfterMs }
      },
    )
  }
}

/** What is done to both; then they must agree in all that can be seen. */
class Command implements fc.AsyncCommand<TextbookCircuit, Real> {
  constructor(
    readonly name: string,
    readonly act: (textbook: TextbookCircuit, real: Real) => void | Promise<void>,
    readonly check: (textbook: Readonly<TextbookCircuit>) => boolean = () => true,
  ) {}

  toString(): string {
    return this.name
  }

  async run(textbook: TextbookCircuit, real: Real): Promise<void> {
    await this.act(textbook, real)
    await settle()
    const { clock, calls } = real
    expect(real.circuit.state).toBe(textbook.phase) // who looks at it also moves it on
    await settle()
    for (const [id, expected] of textbook.calls.entries()) {
      const { ran, ended, refusal } = calls[id]!
      expect({ id, ended, refusal }).toEqual({
        id,
        ended: expected.is !== 'waiting' && expected.is !== 'running',
        refusal: expected.is === 'refused' ? { retryAfterMs: expected.retryAfterMs } : undefined,
      })
      if (expected.is !== 'aborted') expect({ id, ran }).toEqual({ id, ran: ['running', 'done'].includes(expected.is) })
    }
    expect(clock.pendingTimers).toBe(textbook.calls.filter(({ is }) => is === 'waiting').length)
  }
}

const start = new Command('start', (textbook, real) => {
  textbook.start()
  real.start()
})
const end = (nth: number, as: Ending): Command =>
  new Command(
    `end ${nth} as ${as}`,
    (textbook, real) => {
      const open = textbook.calls.flatMap(({ is }, id) => (is === 'running' || is === 'waiting' ? [id] : []))
      const id = open[nth % open.length]!
      const ending = textbook.calls[id]!.is === 'waiting' ? 'aborted' : as
      textbook.end(id, ending)
      real.calls[id]!.end(ending)
    },
    ({ calls }) => calls.some(({ is }) => is === 'running' || is === 'waiting'),
  )
const advance = (ms: number): Command =>
  new Command(`advance ${ms} ms`, async (textbook, real) => {
    textbook.advance(ms)
    await real.clock.advance(ms)
  })
const look = new Command('look', ({ phase, openUntil, openings, counts }, { circuit, clock }) =>
  expect(circuit.snapshot()).toEqual({
    state: phase,
    ...(phase === 'open' ? { openUntil: openUntil - clock.now() + clock.epochMs() } : {}),
    openings,
    ...counts,
  }),
)
const jump = (ms: number): Command =>
  new Command(`set the wall clock ${ms} ms forward`, (_textbook, { clock }) => clock.jumpEpoch(ms))
const reset = new Command('reset', (textbook, { circuit }) => {
  textbook.reset()
  circuit.reset()
})
const isolate = new Command('isolate', (textbook, { circuit, releases }) => {
  textbook.isolate()
  releases.push(circuit.isolate())
})
const release = (nth: number): Command =>
  new Command(
    `release ${nth}`,
    (textbook, { releases }) => {
      textbook.release(nth % releases.length)
      releases[nth % releases.length]!()
    },
    ({ handles }) => handles.length > 0,
  )
const restart = new Command(
  'restart',
  (textbook, real) => {
    textbook.restart()
    real.circuit = real.make(JSON.parse(JSON.stringify(real.circuit.snapshot())) as CircuitInitialState)
  },
  ({ phase, calls, handles }) =>
    phase !== 'isolated' && handles.length === 0 && !calls.some(({ is }) => is === 'running' || is === 'waiting'),
)

const ratio = fc.constantFrom(0.1, 0.25, 0.3, 0.5, 0.7, 1)
const rates = {
  minimumCalls: fc.integer({ min: 1, max: 6 }),
  failureRatio: ratio,
}
const slowness = fc.option(
  fc.record({ slowCallMs: fc.constantFrom(5, 20), slowRatio: ratio }, { requiredKeys: ['slowCallMs'] }),
)
const configs: fc.Arbitrary<Config> = fc.record({
  window: fc.oneof(
    fc.record({ kind: fc.constant('consecutive' as const), failures: fc.integer({ min: 1, max: 3 }) }),
    fc
      .tuple(
        fc.record({ kind: fc.constant('count' as const), size: fc.integer({ min: 6, max: 9 }), ...rates }),
        slowness,
      )
      .map(([window, slow]) => ({ ...window, ...slow })),
    fc
      .tuple(
        fc.record({ kind: fc.constant('time' as const), durationMs: fc.constantFrom(40, 100), ...rates }),
        slowness,
      )
      .map(([window, slow]) => ({ ...window, ...slow })),
  ),
  openMs: fc.record({
    initialMs: fc.constantFrom(0, 10, 30),
    maxMs: fc.constantFrom(30, 45),
    factor: fc.constantFrom(1, 2),
  }),
  trials: fc.integer({ min: 1, max: 4 }),
  failureRatio: fc.option(ratio, { nil: undefined }),
  maxMs: fc.constantFrom(15, 50),
  waitMs: fc.option(fc.constantFrom(5, 20, 70), { nil: undefined }),
})

const often = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T>[] => [arbitrary, arbitrary, arbitrary, arbitrary]
const nth = fc.nat(99)
const commands = fc.commands(
  [
    ...often(fc.constant(start)),
    ...often(fc.tuple(nth, fc.constantFrom<Ending>('success', 'success', 'failure')).map(([n, as]) => end(n, as))),
    fc.tuple(nth, fc.constantFrom<Ending>('ignored', 'aborted', 'aborted but returns')).map(([n, as]) => end(n, as)),
    ...often(fc.constantFrom(1, 4, 10, 16, 31, 1_000).map(advance)),
    fc.constant(look),
    fc.constantFrom(-3_600_000, 3_600_000).map(jump),
    fc.constantFrom(reset, isolate, restart),
    nth.map(release),
  ],
  { maxCommands: 100, size: 'max' },
)

prop(
  'a circuit does what the textbook does, whatever is called, waits, fails, hangs, is aborted or overtaken',
  [configs, commands],
  async (config, list) => {
    await fc.asyncModelRun(() => {
      const real = new Real(config)
      return { real, model: new TextbookCircuit(config, real.clock.now()) }
    }, list)
  },
  { numRuns: 150 },
)
