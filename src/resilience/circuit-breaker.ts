import { checkBoolean, checkFunction, checkMethods, checkObject, checkString } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { isRejectedError } from '../kernel/errors.js'
import {
  attemptOf,
  contextOf,
  Refusal,
  started,
  wrapWith,
  type Attempt,
  type CallContext,
  type ExecuteOptions,
  type Operation,
  type Policy,
} from '../kernel/policy.js'
import { systemRandom } from '../kernel/random.js'
import { reportError } from '../kernel/report.js'
import { CircuitOpenError } from './circuit-open-error.js'
import {
  checkInitialState,
  checkName,
  openTimes,
  trialRules,
  type CallOutcome,
  type CircuitBreakerOptions,
  type CircuitEvents,
  type CircuitSnapshot,
  type CircuitState,
  type TrialRules,
} from './circuit-options.js'
import { restored, trying, weighTrials, type HalfOpen, type State } from './circuit-state.js'
import type { CircuitMember, LocalCircuit } from './store.js'
import { Waiters } from './waiters.js'
import { windowOf, type CallWindow } from './window.js'

/**
 * Refuses calls to what keeps failing, until trial calls show that it works again. Decides in this process alone, at once,
 * without timers: a change that time brings (the open time is over, a trial has taken too long) is made by the next who looks.
 * A result that arrives after the state has changed is old news and changes nothing.
 * Source: Nygard, *Release It!*, 2nd ed., "Circuit Breaker"; slow calls and rates as in resilience4j.
 */
export class CircuitBreaker implements Policy {
  /** As given to the constructor. */
  readonly name: string | undefined
  readonly #window: CallWindow
  readonly #slowCallMs: number
  readonly #openMs: (openings: number) => number
  readonly #rules: TrialRules
  readonly #isFailure: CircuitBreakerOptions['isFailure']
  readonly #metricsOnly: boolean
  readonly #clock: Clock
  readonly #needsNow: boolean
  #needsStart: boolean
  #state: State = { kind: 'closed' }
  #openings = 0
  #lastFailure: unknown
  #wouldBeOpenUntil = -Infinity
  #events: Emitter<CircuitEvents> | undefined
  #waiters: Waiters | undefined
  readonly #fleet: CircuitMember | undefined

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor(options: CircuitBreakerOptions = {}) {
    const {
      name,
      window = { kind: 'consecutive' },
      openMs = 60_000,
      halfOpen = {},
      isFailure,
      metricsOnly,
      initialState,
      store,
      clock = systemClock,
      random = systemRandom,
    } = checkObject('options', options)
    const setup = windowOf(window)
    this.name = checkName(name)
    this.#window = setup.window
    this.#slowCallMs = setup.slowCallMs
    this.#needsStart = setup.slowCallMs < Infinity
    this.#needsNow = setup.needsNow
    this.#openMs = openTimes(openMs, checkFunction('random', random))
    this.#rules = trialRules(halfOpen, setup.slowCallMs, setup.slowRatio)
    this.#isFailure = isFailure === undefined ? undefined : checkFunction('isFailure', isFailure)
    this.#metricsOnly = checkBoolean('metricsOnly', metricsOnly)
    this.#clock = checkMethods('clock', clock, ['now', 'epochMs', 'setTimer'])
    if (initialState !== undefined) {
      checkInitialState(initialState)
      if (!this.#metricsOnly || initialState.state === 'isolated') {
        const longestMs = typeof openMs === 'object' ? openMs.maxMs : openMs
        this.#openings = initialState.openings ?? (initialState.state === 'closed' ? 0 : 1)
        this.#state = restored(initialState, () => this.#openMs(this.#openings), longestMs, clock)
      }
    }
    if (store !== undefined) {
      checkMethods('store', store, ['join'])
      checkString('name', name) // by it the circuits of a fleet find each other
      if (!this.#metricsOnly) this.#fleet = store.join(this.#local(name!))
    }
  }

  /** Where the circuit stands now; `'open'` also when the next call would be a trial. */
  get state(): CircuitState {
    return this.#stateAt(this.#clock.now()).kind
  }

  /**
   * Runs `operation` once, or refuses. What it throws comes out unchanged, whatever the listeners and `isFailure` do.
   * @throws CircuitOpenError when refused: it did not run.
   */
  execute<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<T> {
    const entered = this.#enter(operation, options)
    return entered instanceof Refusal ? Promise.reject(entered.error) : entered
  }

  /** As {@link execute}, but a refusal is a value, and its error is made when it is read: refusing costs next to nothing. */
  attempt<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<Attempt<T>> {
    const entered = this.#enter(operation, options)
    return entered instanceof Refusal ? Promise.resolve(entered) : attemptOf(entered)
  }

  /** `fn` under this circuit. `this` is passed on. */
  wrap<A extends unknown[], T>(fn: (...args: A) => T | PromiseLike<T>): (...args: A) => Promise<T> {
    return wrapWith((operation) => this.execute(operation), fn)
  }

  /**
   * Holds the circuit open by hand, until every handle is released; then it is closed.
   * @returns releases this handle; calling it again does nothing
   */
  isolate(): () => void {
    if (this.#state.kind !== 'isolated') this.#to({ kind: 'isolated', handles: 0 })
    const held = this.#state
    if (held.kind !== 'isolated') return () => {} // a listener has reset it
    held.handles++
    let released = false
    return () => {
      if (released) return
      released = true
      if (--held.handles > 0 || held !== this.#state) return
      this.#close()
      this.#fleet?.rejoin()
    }
  }

  /**
   * Closes the circuit and forgets what it counted, also when it is isolated. Calls under way count no more. With a
   * `store` the whole fleet closes.
   */
  reset(): void {
    this.#close()
    this.#fleet?.reset()
  }

  /** What it is now. An open time is kept as wall-clock time, so that it goes on while the process is away. */
  snapshot(): CircuitSnapshot {
    const now = this.#clock.now()
    const state = this.#stateAt(now)
    return {
      state: state.kind,
      ...(state.kind === 'open' && { openUntil: Math.ceil(this.#clock.epochMs() + state.until - now) }),
      openings: this.#openings,
      ...this.#window.counts(now),
    }
  }

  /** Calls `listener` at each event `name`. What it throws is reported, and changes nothing. @returns stops it */
  on<K extends keyof CircuitEvents>(name: K, listener: (event: CircuitEvents[K]) => unknown): Unsubscribe {
    this.#needsStart ||= name === 'success' || name === 'failure'
    return (this.#events ??= new Emitter()).on(name, listener)
  }

  /** The call: under way, or waiting to be a trial. */
  #enter<T>(operation: Operation<T>, options: ExecuteOptions | undefined): Promise<T> | Refusal {
    const context = contextOf(options)
    if (context.aborted) return Promise.reject(context.reason)
    this.#fleet?.called()
    if (this.#state.kind === 'closed') return this.#run(operation, context, context !== options, this.#state)
    const now = this.#clock.now()
    const began = this.#admit(now, context)
    if (context.aborted) return Promise.reject(context.reason) // by a listener
    if (began) return this.#run(operation, context, context !== options, began)
    const { waitMs } = this.#rules
    if (waitMs === undefined || this.#state.kind !== 'half-open') return this.#refuse(now)
    return this.#wait(operation, context, context !== options, waitMs)
  }

  /** The state in which a call may begin; `undefined`: none, or a listener has aborted the call. */
  #admit(now: number, context: CallContext): State | undefined {
    const state = this.#stateAt(now)
    if (context.aborted) return undefined
    if (state.kind === 'closed') return state // perhaps because a listener has just reset it
    if (state.kind === 'open' && state.until <= now) {
      this.#to(trying())
      return this.#admit(now, context)
    }
    if (state.kind !== 'half-open') return undefined
    const isFree = this.#fleet?.shares
      ? this.#fleet.permit(now)
      : state.running.length + state.settled < this.#rules.trials
    if (!isFree) return undefined
    state.running.push(now)
    return state
  }

  /** The state, once a trial that has taken too long has opened the circuit: as of the moment it did, not of `now`. */
  #stateAt(now: number): State {
    const state = this.#state
    if (state.kind === 'half-open' && state.running.length > 0) {
      const limit = state.running[0]! + this.#rules.maxMs
      if (limit <= now) this.#open(limit)
    }
    return this.#state
  }

  // `then` instead of `await`: faster than the least one can write with it, and V8 follows stack traces through both.
  #run<T>(operation: Operation<T>, context: CallContext, owns: boolean, began: State): Promise<T> {
    const startedAt =
      began.kind === 'half-open' ? began.running.at(-1) : this.#needsStart ? this.#clock.now() : undefined
    return started(operation, context).then(
      (value) => {
        const failed = context.aborted ? 'ignore' : this.#isFailure !== undefined && this.#judge({ value })
        if (owns) context.release()
        this.#settle(began, startedAt, failed, value)
        return value
      },
      (error) => {
        this.#caught(error, context, owns, began, startedAt)
        throw error
      },
    )
  }

  /** Apart from the closure that throws again: V8 looks up where a `throw` stands, and the more code there is around it the longer that takes. */
  #caught(error: unknown, context: CallContext, owns: boolean, began: State, startedAt: number | undefined): void {
    const failed = context.aborted || isRejectedError(error) ? 'ignore' : !this.#isFailure || this.#judge({ error })
    if (owns) context.release()
    this.#settle(began, startedAt, failed, error)
  }

  #judge(outcome: CallOutcome): boolean | 'ignore' {
    try {
      return this.#isFailure!(outcome)
    } catch (error) {
      reportError(error)
      return 'error' in outcome
    }
  }

  #settle(began: State, startedAt: number | undefined, failed: boolean | 'ignore', detail: unknown): void {
    if (began.kind === 'half-open') {
      this.#stateAt(this.#clock.now()) // this trial may itself have taken too long
      began.running.splice(began.running.indexOf(startedAt!), 1)
    }
    const isNews = began === this.#state
    const lease = began.kind === 'half-open' ? this.#fleet?.ended(startedAt!) : undefined
    if (lease && (failed === 'ignore' || !isNews)) this.#fleet!.report(lease, 'ignore', false)
    if (failed === 'ignore') {
      if (isNews) this.#waiters?.wake() // its permit is back
      return
    }
    const now = startedAt !== undefined || this.#needsNow ? this.#clock.now() : 0
    const durationMs = startedAt === undefined ? undefined : now - startedAt
    const slow = durationMs !== undefined && durationMs >= this.#slowCallMs
    if (isNews) {
      if (failed) this.#lastFailure = detail
      if (lease) this.#fleet!.report(lease, failed, slow)
      else if (began.kind === 'half-open') this.#decide(began, failed, slow)
      else if (this.#window.record(failed, slow, now)) this.#trip()
    }
    if (!this.#events) return
    if (failed) this.#events.emit('failure', { error: detail, durationMs })
    else this.#events.emit('success', { durationMs })
  }

  #trip(): void {
    const now = this.#clock.now()
    if (!this.#metricsOnly) return this.#open(now)
    this.#window.clear()
    if (now < this.#wouldBeOpenUntil) return
    const openMs = this.#openMs(1)
    this.#wouldBeOpenUntil = now + openMs
    this.#events?.emit('wouldOpen', { error: this.#lastFailure, openMs })
  }

  #decide(halfOpen: HalfOpen, failed: boolean, slow: boolean): void {
    const verdict = weighTrials(halfOpen, failed, slow, this.#rules)
    if (verdict === 'open') this.#open(this.#clock.now())
    else if (verdict === 'closed') this.#close()
  }

  #open(at: number): void {
    const openMs = this.#openMs(++this.#openings)
    this.#to({ kind: 'open', until: at + openMs }, openMs)
    this.#fleet?.opened()
  }

  #close(): void {
    this.#window.clear()
    this.#openings = 0
    this.#lastFailure = undefined
    this.#wouldBeOpenUntil = -Infinity
    this.#to({ kind: 'closed' })
  }

  /** What a fleet sees of this circuit. */
  #local(name: string): LocalCircuit {
    return {
      name,
      rules: this.#rules,
      clock: this.#clock,
      state: () => {
        const state = this.#state
        return { kind: state.kind, until: state.kind === 'open' ? state.until : 0 }
      },
      openMs: (openings) => this.#openMs(openings),
      adopt: ({ state, openForMs, openings }) => {
        if (this.#state.kind === 'isolated') return
        if (state === 'open') this.#to({ kind: 'open', until: this.#clock.now() + openForMs }, openForMs)
        else if (state === 'half-open') this.#to(trying())
        else if (this.#state.kind !== 'closed') this.#close()
        else return
        this.#openings = openings
      },
      decide: (failed, slow) => {
        if (this.#state.kind === 'half-open') this.#decide(this.#state, failed, slow)
      },
      wake: () => this.#waiters?.wake(),
      waits: () => Boolean(this.#waiters?.size),
      lost: (error) => this.#events?.emit('storeFailed', { error }),
    }
  }

  #to(next: State, openMs?: number): void {
    const from = this.#state.kind
    this.#state = next
    if (from !== next.kind) this.#events?.emit('stateChange', { from, to: next.kind, error: this.#lastFailure, openMs })
    this.#waiters?.wake()
  }

  #refuse(now: number): Refusal {
    const { name } = this
    const state = this.#state
    let retryAfterMs: number | undefined
    if (state.kind === 'open') retryAfterMs = state.until - now
    else if (state.kind === 'half-open')
      retryAfterMs = this.#fleet?.shares
        ? this.#fleet.retryAfterMs
        : (state.running[0] ?? now) + this.#rules.maxMs - now
    this.#events?.emit('refused', { retryAfterMs })
    const options = this.#lastFailure === undefined ? undefined : { cause: this.#lastFailure }
    return new Refusal(
      () =>
        new CircuitOpenError(
          `circuit${name === undefined ? '' : ` '${name}'`} is ${state.kind}`,
          retryAfterMs,
          options,
        ),
    )
  }

  #wait<T>(operation: Operation<T>, context: CallContext, owns: boolean, waitMs: number): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const fail = (reason: unknown): void => {
        if (owns) context.release()
        reject(reason)
      }
      const decide = (late: boolean): (() => void) | undefined => {
        const now = this.#clock.now()
        const began = late ? undefined : this.#admit(now, context)
        if (began) return () => resolve(this.#run(operation, context, owns, began))
        if (!late && this.#state.kind === 'half-open') return undefined
        const { error } = this.#refuse(now)
        return () => fail(error)
      }
      const waiter = { context, waitMs, decide, gone: () => fail(context.reason) }
      this.#waiters ??= new Waiters()
      this.#waiters.add(waiter, this.#clock, () => void this.#stateAt(this.#clock.now()))
    })
  }
}
