import type { WindowOptions } from '../../src/resilience/index.js'

/** How the function of a call ends. */
export type Ending = 'success' | 'failure' | 'ignored' | 'aborted' | 'aborted but returns'

/** The options of a circuit that the textbook knows. */
export interface Config {
  readonly window: WindowOptions
  readonly openMs: { readonly initialMs: number; readonly maxMs: number; readonly factor: number }
  readonly trials: number
  readonly failureRatio: number | undefined
  readonly maxMs: number
  /** `undefined`: who gets no trial is refused. */
  readonly waitMs: number | undefined
}

/** Where a call is. */
export type Call =
  | { is: 'waiting'; until: number }
  | { is: 'running'; era: number; startedAt: number }
  | { is: 'refused'; retryAfterMs: number | undefined }
  | { is: 'aborted' | 'done' }

interface Logged {
  readonly at: number
  readonly failed: boolean
  readonly slow: boolean
}

/** A circuit as a textbook has it: keeps every call, result and trial, and counts anew each time. Slow and plain. */
export class TextbookCircuit {
  phase: 'closed' | 'open' | 'half-open' | 'isolated' = 'closed'
  openUntil = 0
  openings = 0
  readonly calls: Call[] = []
  readonly handles: { era: number; held: boolean }[] = []
  #era = 0 // one more with each change of phase
  #log: Logged[] = []
  #results: Logged[] = []
  #isWaking = false

  constructor(
    readonly config: Config,
    public now: number,
  ) {}

  start(): void {
    const call = this.#tryToEnter()
    const { waitMs } = this.config
    if (call.is === 'refused' && this.phase === 'half-open' && waitMs !== undefined)
      this.calls.push({ is: 'waiting', until: this.now + waitMs })
    else this.calls.push(call)
  }

  end(id: number, ending: Ending): void {
    const call = this.calls[id]!
    if (call.is === 'waiting') {
      this.calls[id] = { is: 'aborted' } // all that can happen to it
      return
    }
    if (call.is !== 'running') return
    this.#passTime()
    this.calls[id] = { is: ending === 'aborted' ? 'aborted' : 'done' }
    if (call.era === this.#era) this.#learn(call.startedAt, ending)
  }

  advance(ms: number): void {
    const end = this.now + ms
    for (;;) {
      const [first] = this.calls
        .flatMap((call) => (call.is === 'waiting' && call.until <= end ? [call] : []))
        .toSorted((a, b) => a.until - b.until)
      if (!first) break
      this.now = first.until
      this.#passTime() // a trial that has hung too long lets others in
      const id = this.calls.indexOf(first)
      if (id >= 0) this.calls[id] = this.#refusal()
    }
    this.now = end
    this.#passTime() // it is looked at then
  }

  reset(): void {
    this.#enter('closed')
  }

  isolate(): void {
    if (this.phase !== 'isolated') this.#enter('isolated')
    this.handles.push({ era: this.#era, held: true })
  }

  release(which: number): void {
    const handle = this.handles[which]!
    if (!handle.held) return
    handle.held = false
    const isLast = !this.handles.some(({ era, held }) => held && era === handle.era)
    if (handle.era === this.#era && isLast) this.#enter('closed')
  }

  /** The process ends, and another goes on from the snapshot. */
  restart(): void {
    this.#log = []
    this.#results = []
    this.#era++
  }

  get counts(): { calls: number; failures: number; slow: number } {
    const all = this.#inWindow()
    return {
      calls: all.length,
      failures: all.filter((r) => r.failed).length,
      slow: all.filter((r) => r.slow).length,
    }
  }

  #enter(phase: TextbookCircuit['phase']): void {
    this.phase = phase
    this.#era++
    this.#results = []
    if (phase === 'closed') {
      this.#log = []
      this.openings = 0
    }
    this.#wake()
  }

  #open(at: number): void {
    const { initialMs, maxMs, factor } = this.config.openMs
    let ms = initialMs
    for (let n = 0; n < this.openings; n++) ms *= factor
    this.openings++
    this.openUntil = at + Math.min(ms, maxMs)
    this.#enter('open')
  }

  get #trials(): number[] {
    return this.calls.flatMap((call) => (call.is === 'running' && call.era === this.#era ? [call.startedAt] : []))
  }

  #passTime(): void {
    const limit = Math.min(...this.#trials) + this.config.maxMs
    if (this.phase === 'half-open' && limit <= this.now) this.#open(limit)
  }

  #tryToEnter(): Call {
    this.#passTime()
    if (this.phase === 'open' && this.now >= this.openUntil) this.#enter('half-open')
    const isFree = this.#trials.length + this.#results.length < this.config.trials
    if (this.phase === 'closed' || (this.phase === 'half-open' && isFree))
      return { is: 'running', era: this.#era, startedAt: this.now }
    return this.#refusal()
  }

  #refusal(): Call {
    if (this.phase === 'open') return { is: 'refused', retryAfterMs: this.openUntil - this.now }
    if (this.phase === 'isolated') return { is: 'refused', retryAfterMs: undefined }
    return { is: 'refused', retryAfterMs: Math.min(...this.#trials, this.now) + this.config.maxMs - this.now }
  }

  /** Who has waited longest is first, and holds up those behind. */
  #wake(): void {
    if (this.#isWaking) return
    this.#isWaking = true
    for (;;) {
      const id = this.calls.findIndex((call) => call.is === 'waiting')
      if (id < 0) break
      const call = this.#tryToEnter()
      if (call.is === 'refused' && this.phase === 'half-open') break
      this.calls[id] = call
    }
    this.#isWaking = false
  }

  #learn(startedAt: number, ending: Ending): void {
    if (ending !== 'success' && ending !== 'failure') return this.#wake() // its permit is back
    const { window } = this.config
    const slowCallMs = window.kind === 'consecutive' ? undefined : window.slowCallMs
    const slow = slowCallMs !== undefined && this.now - startedAt >= slowCallMs
    const result = { at: this.now, failed: ending === 'failure', slow }
    if (this.phase === 'half-open') {
      this.#results.push(result)
      const rest = this.config.trials - this.#results.length
      const worst = Array.from({ length: rest }, () => ({ at: 0, failed: true, slow: slowCallMs !== undefined }))
      if (this.#areBad(this.#results)) this.#open(this.now)
      else if (!this.#areBad([...this.#results, ...worst])) this.#enter('closed')
    } else {
      this.#log.push(result)
      if (this.#isBad()) this.#open(this.now)
    }
  }

  #areBad(results: readonly Logged[]): boolean {
    const { window, trials, failureRatio } = this.config
    const failed = results.filter((r) => r.failed).length
    const slow = results.filter((r) => r.slow).length
    const slowRatio = window.kind === 'consecutive' ? 1 : (window.slowRatio ?? 1)
    return (failed > 0 && failed / trials >= (failureRatio ?? 0)) || slow / trials >= slowRatio
  }

  #inWindow(): readonly Logged[] {
    const { window } = this.config
    if (window.kind === 'count') return this.#log.slice(-window.size)
    if (window.kind === 'time') {
      const bucket = (at: number): number => Math.floor(at / (window.durationMs / 10))
      return this.#log.filter((r) => bucket(r.at) > bucket(this.now) - 10)
    }
    return this.#log.slice(this.#log.findLastIndex((r) => !r.failed) + 1)
  }

  #isBad(): boolean {
    const { window } = this.config
    const { calls, failures, slow } = this.counts
    if (window.kind === 'consecutive') return calls >= (window.failures ?? 5)
    if (calls < window.minimumCalls) return false
    return failures / calls >= window.failureRatio || slow / calls >= (window.slowRatio ?? 1)
  }
}
