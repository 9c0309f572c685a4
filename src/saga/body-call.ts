import { checkObject, checkString, invalid } from '../kernel/check.js'
import { jsonCodec } from '../kernel/codec.js'
import type { Clock } from '../kernel/clock.js'
import type { CallContext } from '../kernel/policy.js'
import type { CompensateContext, EmittedEvent } from './body.js'
import type { BodyRun } from './body-run.js'
import { escapeName, type SagaNode } from './definition.js'
import type { SagaState, StoredEvent } from './journal.js'
import { resultsOf } from './results.js'

/** What the bodies of a saga need to know of it. */
export interface BodyScope {
  readonly sagaId: string
  readonly createdAt: number
  /** Text of the codec. */
  readonly input: string
  readonly state: SagaState
  readonly fence: number
  /** By path, the nodes whose results a body sees. */
  readonly visible: ReadonlyMap<string, readonly SagaNode[]>
  readonly clock: Clock
  readonly hasBus: boolean
  readonly graceMs: number
}

const UNREAD = Symbol('unread')

/** What one body is given. Most of it few bodies look at: it is made when it is first read. */
export class BodyCall implements CompensateContext<unknown, unknown, unknown> {
  readonly sagaId: string
  readonly path: string
  readonly fence: number
  readonly attempt: number
  readonly outcome: 'done' | 'unknown'
  readonly #run: BodyRun
  readonly #call: CallContext
  readonly #emitted: StoredEvent[]
  readonly #turn: string
  /** Of what is compensated; `undefined`: nothing is known. */
  readonly #result: string | undefined
  #readInput: unknown = UNREAD
  #readResults: unknown
  #readResult: unknown = UNREAD

  constructor(run: BodyRun, call: CallContext, emitted: StoredEvent[]) {
    const { scope, node, at, compensating } = run
    this.#run = run
    this.#call = call
    this.#emitted = emitted
    this.#turn = at.generation === 0 ? '' : `.${at.generation}`
    this.#result = compensating && at.outcome === 'done' ? at.value : undefined
    this.sagaId = scope.sagaId
    this.path = node.path
    this.fence = scope.fence
    this.attempt = at.attempt
    this.outcome = at.outcome
  }

  get key(): string {
    return this.#run.compensating ? `${this.#base}#compensate${this.#turn}` : this.runKey
  }

  get runKey(): string {
    return `${this.#base}#run${this.#turn}`
  }

  get input(): unknown {
    if (this.#readInput === UNREAD) this.#readInput = jsonCodec.decode(this.#run.scope.input)
    return this.#readInput
  }

  get results(): unknown {
    const { state, visible } = this.#run.scope
    return (this.#readResults ??= resultsOf(state, visible.get(this.path) ?? []))
  }

  get result(): unknown {
    if (this.#readResult === UNREAD)
      this.#readResult = this.#result === undefined ? undefined : jsonCodec.decode(this.#result)
    return this.#readResult
  }

  get signal(): AbortSignal {
    return this.#call.signal
  }

  /** A function of its own, because it is taken by name. */
  get emit(): (event: EmittedEvent) => void {
    return (event) => this.#emit(event)
  }

  #emit(event: EmittedEvent): void {
    const { isSettled, scope } = this.#run
    if (isSettled) return // this attempt does not count any more
    if (!scope.hasBus) invalid('bus', `an event bus, because '${this.path}' emits`, undefined)
    this.#emitted.push(storedEvent(event, `${this.key}#${this.#emitted.length}`, scope))
  }

  get #base(): string {
    const { sagaId, createdAt } = this.#run.scope
    // the moment of creation is part of the keys, so that a new saga under an old id is not taken for the old one
    return `${escapeName(sagaId)}@${createdAt.toString(36)}/${this.path}`
  }
}

function storedEvent(event: EmittedEvent, id: string, { sagaId, clock }: BodyScope): StoredEvent {
  const { type, data, key, headers = {} } = checkObject('event', event)
  checkObject('headers', headers)
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
