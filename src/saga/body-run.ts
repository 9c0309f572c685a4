import { checkString, invalid } from '../kernel/check.js'
import { jsonCodec } from '../kernel/codec.js'
import { TimeoutError } from '../kernel/errors.js'
import type { Clock } from '../kernel/clock.js'
import { CallContext } from '../kernel/policy.js'
import type { CompensateContext, EmittedEvent, SagaTransaction } from './body.js'
import { escapeName, type SagaNode, type StepNode } from './definition.js'
import type { NodeState, SagaState, StoredEvent } from './journal.js'
import type { SagaInput } from './machine.js'
import { resultsOf } from './results.js'

/** What a body needs to know of its saga. */
export interface BodyScope {
  readonly sagaId: string
  readonly createdAt: number
  /** Text of the codec. */
  readonly input: string
  readonly state: SagaState
  readonly fence: number
  readonly visible: readonly SagaNode[]
  readonly clock: Clock
  readonly hasBus: boolean
  readonly graceMs: number
}

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
    private readonly scope: BodyScope,
    private readonly report: (input: SagaInput) => void,
    private readonly at: NodeState,
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

  /** @param tx what a transaction's body works through */
  start(tx?: SagaTransaction): void {
    void this.#execute(tx)
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

  async #execute(tx: SagaTransaction | undefined): Promise<void> {
    const { node } = this
    const emitted: StoredEvent[] = []
    let value: unknown
    try {
      const context = this.#context(emitted)
      if (tx) Object.assign(context, { tx })
      value = await (this.compensating ? node.compensate?.(context) : node.run(context))
    } catch (error) {
      return this.#settle(this.#failure(error, this.#stopped || this.#isUncertain(error)))
    }
    try {
      // what a compensation gives is nobody's to read
      const text = this.compensating ? 'null' : jsonCodec.encode(value)
      this.#settle({ type: 'succeeded', path: node.path, value: text, emitted })
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

  #context(emitted: StoredEvent[]): CompensateContext<unknown, unknown, unknown> {
    const { scope, compensating, node, at } = this
    const { sagaId, state, visible, input, fence } = scope
    const call = this.#call
    const turn = at.generation === 0 ? '' : `.${at.generation}`
    // the moment of creation is part of the keys, so that a new saga under an old id is not taken for the old one
    const base = `${escapeName(sagaId)}@${scope.createdAt.toString(36)}/${node.path}`
    const runKey = `${base}#run${turn}`
    const key = compensating ? `${base}#compensate${turn}` : runKey
    const text = compensating && at.outcome === 'done' ? at.value : undefined
    const cache: { input?: unknown; results?: unknown; result?: unknown } = {}
    return {
      sagaId,
      path: node.path,
      key,
      runKey,
      fence,
      attempt: at.attempt,
      outcome: at.outcome,
      get input() {
        if (!('input' in cache)) cache.input = jsonCodec.decode(input)
        return cache.input
      },
      get results() {
        return (cache.results ??= resultsOf(state, visible))
      },
      get result() {
        if (!('result' in cache)) cache.result = text === undefined ? undefined : jsonCodec.decode(text)
        return cache.result
      },
      get signal() {
        return call.signal
      },
      emit: (event) => {
        if (this.#settled) return // this attempt does not count any more
        if (!scope.hasBus) invalid('bus', `an event bus, because '${node.path}' emits`, undefined)
        emitted.push(storedEvent(event, `${key}#${emitted.length}`, sagaId, scope.clock))
      },
    }
  }
}

function storedEvent(
  { type, data, key, headers = {} }: EmittedEvent,
  id: string,
  sagaId: string,
  clock: Clock,
): StoredEvent {
  for (const [name, value] of Object.entries(headers)) checkString(`headers.${name}`, value, 0)
  return {
    id,
    type: checkString('type', type),
    data: jsonCodec.encode(data),
    ...(key === undefined ? {} : { key: checkString('key', key, 0) }),
    headers: { correlationId: sagaId, ...headers },
    occurredAt: clock.epochMs(),
  }
}
