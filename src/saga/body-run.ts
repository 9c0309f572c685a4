import { jsonCodec } from '../kernel/codec.js'
import { TimeoutError } from '../kernel/errors.js'
import { CallContext, started } from '../kernel/policy.js'
import type { SagaTransaction } from './body.js'
import { BodyCall, type BodyScope } from './body-call.js'
import type { StepNode } from './definition.js'
import type { NodeState, StoredEvent } from './journal.js'
import type { SagaInput } from './machine.js'
import { checkLength } from './payload.js'

/** One attempt of one body. Reports once how it ended; what it does after that is not listened to. */
export class BodyRun {
  readonly #call: CallContext
  #stopped = false
  #settled = false
  #cancelTimer: (() => void) | undefined

  /** @param report called once; not at all after {@link forget} */
  constructor(
    readonly node: StepNode,
    readonly compensating: boolean,
    readonly scope: BodyScope,
    private readonly report: (input: SagaInput) => void,
    readonly at: NodeState,
  ) {
    this.#call = new CallContext(undefined, at.attempt)
    const timeoutMs = compensating ? node.compensateTimeoutMs : node.timeoutMs
    if (timeoutMs < Infinity)
      this.#cancelTimer = scope.clock.setTimer(
        () => {
          const error = new TimeoutError(`'${node.path}' took longer than ${timeoutMs} ms`, timeoutMs)
          this.#settle(this.#failure(error, true))
          this.#call.abort(error)
        },
        timeoutMs,
        { keepAlive: true },
      )
  }

  /** Whether it has reported, or is not listened to any more. */
  get isSettled(): boolean {
    return this.#settled
  }

  /** @param tx what a transaction's body works through */
  start(tx?: SagaTransaction): void {
    const emitted: StoredEvent[] = []
    const context = new BodyCall(this, this.#call, emitted)
    if (tx) Object.assign(context, { tx })
    started(() => (this.compensating ? this.node.compensate?.(context) : this.node.run(context)), this.#call).then(
      (value) => this.#returned(value, emitted),
      (error) => this.#settle(this.#failure(error, this.#stopped || this.#isUncertain(error))),
    )
  }

  /** Asks the body to stop: it may still say how it ended for `graceMs`. */
  stop(reason: Error): void {
    if (this.#stopped || this.#settled) return
    this.#stopped = true
    this.#cancelTimer?.()
    this.#cancelTimer = this.scope.clock.setTimer(() => this.#settle(this.#failure(reason, true)), this.scope.graceMs, {
      keepAlive: true,
    })
    this.#call.abort(reason)
  }

  /** Asks the body to stop and listens no longer. */
  forget(reason: Error): void {
    this.#settled = true
    this.#cancelTimer?.()
    this.#call.abort(reason)
  }

  #returned(value: unknown, emitted: readonly StoredEvent[]): void {
    try {
      // what a compensation gives is nobody's to read
      const text = this.compensating ? 'null' : jsonCodec.encode(value)
      const length = emitted.reduce((sum, event) => sum + JSON.stringify(event).length, text.length)
      checkLength(`what '${this.node.path}' gave and emitted`, length)
      this.#settle({ type: 'succeeded', path: this.node.path, value: text, emitted })
    } catch (error) {
      this.#settle(this.#failure(error, true, true)) // it ran, but nobody can be told what it gave
    }
  }

  #isUncertain(error: unknown): boolean {
    try {
      return this.node.uncertain(error)
    } catch {
      return true
    }
  }

  #failure(error: unknown, maybe: boolean, final = false): SagaInput {
    // a transaction that is not recorded is rolled back
    return { type: 'failed', path: this.node.path, error, maybe: maybe && this.node.kind !== 'transaction', final }
  }

  #settle(input: SagaInput): void {
    if (this.#settled) return
    this.#settled = true
    this.#cancelTimer?.()
    this.report(input)
  }
}
