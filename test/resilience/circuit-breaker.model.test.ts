import { expect } from 'vitest'
import { CircuitBreaker, type CircuitBreakerOptions, type WindowOptions } from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'

/** What a property says about one call. */
type Ending = 'success' | 'failure' | 'ignored' | 'aborted' | 'aborted but returns'
interface Config {
  window: WindowOptions & { kind: 'consecutive' | 'count' | 'time' }
  openMs: { initialMs: number; maxMs: number; factor: number }
  trials: number
  failureRatio: number | undefined
  maxMs: number
}
interface Logged {
  at: number
  failed: boolean
  slow: boolean
}

/** A circuit as a textbook has it: keeps every result and every trial, and counts anew each time. Slow and plain. */
class TextbookCircuit {
  phase: 'closed' | 'open' | 'half-open' | 'isolated' = 'closed'
  era = 0 // one more with each change of phase
  log: Logged[] = []
  openUntil = 0
  openings = 0
  running: number[] = []
  results: Logged[] = []
  handles = new Set<number>()

  constructor(private readonly config: Config) {}

  enter(phase: TextbookCircuit['phase']): void {
    this.phase = phase
    this.era++
    this.running = []
    this.results = []
    this.handles = new Set()
    if (phase === 'closed') {
      this.log = []
      this.openings = 0
    }
  }

  open(at: number): void {
    const { initialMs, maxMs, factor } = this.config.openMs
    let ms = initialMs
    for (let n = 0; n < this.openings; n++) ms *= factor
    this.enter('open')
    this.openings++
    this.openUntil = at + Math.min(ms, maxMs)
  }

  passTime(now: number): void {
    const limit = Math.min(...this.running) + this.config.maxMs
    if (this.phase === 'half-open' && limit <= now) this.open(limit)
  }

  /** The era the call belongs to, or how long to wait. */
  start(now: number): { era: number } | { retryAfterMs: number | undefined } {
    this.passTime(now)
    if (this.phase === 'open' && now >= this.openUntil) this.enter('half-open')
    if (this.phase === 'closed') return { era: this.era }
    if (this.phase === 'open') return { retryAfterMs: this.openUntil - now }
    if (this.phase === 'isolated') return { retryAfterMs: undefined }
    if (this.running.length + this.results.length === this.config.trials)
      return { retryAfterMs: Math.min(...this.running) + this.config.maxMs - now }
    this.running.push(now)
    return { era: this.era }
  }

  end(era: number, startedAt: number, now: number, ending: Ending): void {
    this.passTime(now)
    if (era !== this.era) return
    const { window, trials, failureRatio } = this.config
    const limits = window.kind === 'consecutive' ? undefined : window
    if (this.phase === 'half-open') this.running.splice(this.running.indexOf(startedAt), 1)
    if (ending !== 'success' && ending !== 'failure') return
    const slow = limits?.slowCallMs !== undefined && now - startedAt >= limits.slowCallMs
    const result = { at: now, failed: ending === 'failure', slow }

    if (this.phase === 'half-open') {
      this.results.push(result)
      const bad = (all: Logged[]): boolean => {
        const failed = all.filter((r) => r.failed).length
        const slowOnes = all.filter((r) => r.slow).length
        const failedBad = failureRatio === undefined ? failed > 0 : failed > 0 && failed / trials >= failureRatio
        return failedBad || slowOnes / trials >= (limits?.slowRatio ?? 1)
      }
      const rest = trials - this.results.length
      const worst = { at: now, failed: true, slow: limits?.slowCallMs !== undefined }
      if (bad(this.results)) this.open(now)
      else if (!bad([...this.results, ...Array.from({ length: rest }, () => worst)])) this.enter('closed')
      return
    }
    this.log.push(result)
    if (this.isBad(now)) this.open(now)
  }

  inWindow(now: number): Logged[] {
    const { window } = this.config
    if (window.kind === 'count') return this.log.slice(-window.size)
    if (window.kind === 'time') {
      const bucket = (at: number): number => Math.floor(at / (window.durationMs / 10))
      return this.log.filter((r) => bucket(r.at) > bucket(now) - 10)
    }
    return this.log.slice(this.log.findLastIndex((r) => !r.failed) + 1)
  }

  isBad(now: number): boolean {
    const { window } = this.config
    const all = this.inWindow(now)
    if (window.kind === 'consecutive') return all.length >= (window.failures ?? 5)
    if (all.length < window.minimumCalls) return false
    const share = (which: 'failed' | 'slow'): number => all.filter((r) => r[which]).length / all.length
    return share('failed') >= window.failureRatio || share('slow') >= (window.slowRatio ?? 1)
  }
}

const ratio = fc.constantFrom(0.1, 0.25, 0.3, 0.5, 0.7, 1)
const limits = {
  minimumCalls: fc.integer({ min: 1, max: 6 }),
  failureRatio: ratio,
}
const slowness = fc.option(
  fc.record({ slowCallMs: fc.constantFrom(5, 20), slowRatio: ratio }, { requiredKeys: ['slowCallMs'] }),
)
const windows: fc.Arbitrary<Config['window']> = fc.oneof(
  fc.record({ kind: fc.constant('consecutive' as const), failures: fc.integer({ min: 1, max: 3 }) }),
  fc
    .tuple(
      fc.record({ kind: fc.constant('count' as const), size: fc.integer({ min: 6, max: 9 }), ...limits }),
      slowness,
    )
    .map(([window, slow]) => ({ ...window, ...slow })),
  fc
    .tuple(fc.record({ kind: fc.constant('time' as const), durationMs: fc.constantFrom(40, 100), ...limits }), slowness)
    .map(([window, slow]) => ({ ...window, ...slow })),
)
const configs: fc.Arbitrary<Config> = fc.record({
  window: windows,
  openMs: fc.record({
    initialMs: fc.constantFrom(0, 10, 30),
    maxMs: fc.constantFrom(30, 45),
    factor: fc.constantFrom(1, 2),
  }),
  trials: fc.integer({ min: 1, max: 4 }),
  failureRatio: fc.option(ratio, { nil: undefined }),
  maxMs: fc.constantFrom(15, 50),
})

type Step =
  | { do: 'start' }
  | { do: 'end'; which: number; as: Ending }
  | { do: 'wait'; ms: number }
  | { do: 'isolate' }
  | { do: 'reset' }
  | { do: 'release'; which: number }
const which = fc.nat(99)
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.constant({ do: 'start' } as const) },
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant('end' as const),
        which,
        as: fc.oneof(
          { weight: 4, arbitrary: fc.constant<Ending>('success') },
          { weight: 2, arbitrary: fc.constant<Ending>('failure') },
          { weight: 1, arbitrary: fc.constantFrom<Ending>('ignored', 'aborted', 'aborted but returns') },
        ),
      }),
    },
    {
      weight: 5,
      arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 4, 10, 16, 31, 1_000) }),
    },
    { weight: 1, arbitrary: fc.constantFrom({ do: 'isolate' } as const, { do: 'reset' } as const) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('release' as const), which }) },
  ),
  { maxLength: 100, size: 'max' },
)

prop(
  'a circuit does what the textbook does, whatever is called, fails, hangs, is aborted or overtaken',
  [configs, steps],
  async (config, list) => {
    const clock = new ManualClock()
    const textbook = new TextbookCircuit(config)
    const options: CircuitBreakerOptions = {
      window: config.window,
      openMs: config.openMs,
      halfOpen: { trials: config.trials, failureRatio: config.failureRatio, maxMs: config.maxMs },
      isFailure: ({ error, value }) => (value === 'ignored' ? 'ignore' : error !== undefined),
      clock,
    }
    const circuit = new CircuitBreaker(options)
    const calls: { era: number; startedAt: number; end(as: Ending): Promise<void> }[] = []
    const handles: { id: number; era: number; release(): void }[] = []

    for (const step of list) {
      const now = clock.now()
      if (step.do === 'start') {
        const expected = textbook.start(now)
        let finish!: (as: Ending) => void
        let ran = false
        const controller = new AbortController()
        const result = circuit.execute(
          ({ signal }) => {
            ran = true
            return new Promise((resolve, reject) => {
              signal.addEventListener('abort', () => reject(signal.reason))
              finish = (as) => (as === 'failure' ? reject(new Error('failed')) : resolve(as))
            })
          },
          { signal: controller.signal },
        )
        expect(ran).toBe('era' in expected)
        if ('era' in expected) {
          calls.push({
            era: expected.era,
            startedAt: now,
            async end(as) {
              if (as === 'aborted but returns') finish(as)
              if (as.startsWith('aborted')) controller.abort('enough')
              else finish(as)
              await result.catch(() => {})
            },
          })
        } else await expect(result).rejects.toMatchObject({ code: 'CIRCUIT_OPEN', retryAfterMs: expected.retryAfterMs })
      } else if (step.do === 'end') {
        const [call] = calls.splice(step.which % Math.max(1, calls.length), 1)
        if (!call) continue
        await call.end(step.as)
        textbook.end(call.era, call.startedAt, now, step.as)
      } else if (step.do === 'wait') await clock.advance(step.ms)
      else if (step.do === 'reset') {
        circuit.reset()
        textbook.enter('closed')
      } else if (step.do === 'isolate') {
        if (textbook.phase !== 'isolated') textbook.enter('isolated')
        const id = handles.length
        textbook.handles.add(id)
        handles.push({ id, era: textbook.era, release: circuit.isolate() })
      } else {
        const handle = handles[step.which % Math.max(1, handles.length)]
        handle?.release()
        if (handle?.era === textbook.era && textbook.handles.delete(handle.id) && textbook.handles.size === 0)
          textbook.enter('closed')
      }
      textbook.passTime(clock.now())
      const counted = textbook.inWindow(clock.now())
      expect(circuit.snapshot()).toEqual({
        state: textbook.phase,
        ...(textbook.phase === 'open' ? { openUntil: textbook.openUntil - clock.now() + clock.epochMs() } : {}),
        openings: textbook.openings,
        calls: counted.length,
        failures: counted.filter((r) => r.failed).length,
        slow: counted.filter((r) => r.slow).length,
      })
    }
    expect(clock.pendingTimers).toBe(0)
    await settle()
  },
  { numRuns: 200 },
)
