import { checkFunction, checkObject, checkString, show } from '../kernel/check.js'
import type { Unsubscribe } from '../kernel/emitter.js'
import { InvalidOptionError, NotFoundError } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import { checkSchema, validate, type StandardSchema } from '../kernel/schema.js'
import { orAbort } from '../kernel/signal.js'
import type { BusMessage, BusContext, MessageChanges, Middleware, SendOptions } from './bus.js'

/** How a type is handled, and what its handler reads from. */
interface Registration<Source> {
  readonly handle: (input: unknown, context: BusContext) => unknown
  readonly schema: StandardSchema | undefined
  readonly source: Source
}

/** What both buses are made of: handlers by type, and the onion around them. @internal */
export class Dispatcher<Source = undefined> {
  readonly #handlers = new Map<string, Registration<Source>>()
  #middleware: readonly Middleware[] = []

  constructor(private readonly kind: BusMessage['kind']) {}

  on(type: string, mine: Registration<Source>): Unsubscribe {
    checkString('type', type)
    checkFunction('handle', mine.handle)
    if (mine.schema !== undefined) checkSchema('schema', mine.schema)
    if (this.#handlers.has(type)) throw new InvalidOptionError(`type: ${this.kind} ${show(type)} has a handler already`)
    this.#handlers.set(type, mine)
    return () => {
      if (this.#handlers.get(type) === mine) this.#handlers.delete(type)
    }
  }

  use(middleware: readonly Middleware[]): void {
    for (const one of middleware) checkFunction('middleware', one)
    this.#middleware = [...this.#middleware, ...middleware] // a new list: sends under way keep theirs
  }

  /** @param ready runs after the input has been validated, before the handler */
  async send(type: string, input: unknown, options: SendOptions = {}, ready?: Ready<Source>): Promise<unknown> {
    const {
      messageId = randomId(),
      idempotencyKey = messageId,
      metadata = {},
      signal,
    } = checkObject('options', options)
    checkString('messageId', messageId)
    checkString('idempotencyKey', idempotencyKey)
    const { correlationId = messageId } = checkObject('metadata', metadata)
    checkString('metadata.correlationId', correlationId, 0)
    const whole = { ...metadata, correlationId }
    const message = withSignal({ kind: this.kind, type, input, messageId, idempotencyKey, metadata: whole }, signal)
    return this.#enter({ layers: this.#middleware, message, signal, ready }, 0)
  }

  async #enter(flight: Flight<Source>, depth: number): Promise<unknown> {
    const layer = flight.layers[depth]
    if (!layer) return this.#handle(flight)
    return layer(flight.message, (changes) => this.#enter(changes ? changed(flight, changes) : flight, depth + 1))
  }

  async #handle({ message, signal, ready }: Flight<Source>): Promise<unknown> {
    const { type, messageId, idempotencyKey, metadata } = message
    const registered = this.#handlers.get(type)
    if (!registered) throw new NotFoundError(`no handler for ${this.kind} ${show(type)}`)
    const input = await orAbort(validate(registered.schema, message.input, `${this.kind} ${show(type)}`), signal)
    if (ready) await orAbort(ready(registered.source, signal), signal)
    signal?.throwIfAborted()
    const own = { messageId, idempotencyKey, metadata: { ...metadata, causationId: messageId } }
    return registered.handle(input, withSignal(own, signal))
  }
}

/** A message on its way through the layers. */
interface Flight<Source> {
  readonly layers: readonly Middleware[]
  readonly message: BusMessage
  /** What the sender or a middleware gave. */
  readonly signal: AbortSignal | undefined
  readonly ready: Ready<Source> | undefined
}

type Ready<Source> = (source: Source, signal: AbortSignal | undefined) => Promise<void>

function changed<Source>(
  flight: Flight<Source>,
  { metadata = {}, signal = flight.signal }: MessageChanges,
): Flight<Source> {
  const { message } = flight
  const { correlationId = message.metadata.correlationId } = metadata
  const { kind, type, input, messageId, idempotencyKey } = message
  const whole = { ...message.metadata, ...metadata, correlationId }
  return {
    ...flight,
    signal,
    message: withSignal({ kind, type, input, messageId, idempotencyKey, metadata: whole }, signal),
  }
}

/** `fields` and the signal; one that never aborts is made for those who read it where nobody gave any. */
function withSignal<T extends object>(fields: T, given: AbortSignal | undefined): T & { readonly signal: AbortSignal } {
  let signal = given
  return Object.defineProperty(fields as T & { readonly signal: AbortSignal }, 'signal', {
    get: () => (signal ??= new AbortController().signal),
    enumerable: true, // a copy by spread has it too
  })
}
