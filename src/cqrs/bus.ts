import type { Metadata } from '../event-sourcing/event.js'
import type { Unsubscribe } from '../kernel/emitter.js'
import type { StandardSchema } from '../kernel/schema.js'

/** The shape of a map type → what is sent and what comes back: `{ PlaceOrder: { in: Order; out: Handled } }`. */
export type BusTypes<M> = { readonly [K in keyof M]: { readonly in: unknown; readonly out: unknown } }

/** What command bus and query bus have in common: one handler per type, which answers. `M` maps types as {@link BusTypes}. */
export interface Bus<M extends BusTypes<M>> {
  /**
   * Makes `handle` the one that answers messages of `type`, until the returned function is called.
   * @throws InvalidOptionError when the type has a handler: it stays.
   */
  on<K extends keyof M & string>(type: K, handle: BusHandler<M[K]>, options?: BusHandlerOptions<M[K]>): Unsubscribe

  /**
   * Brings `input` to the handler of `type` and gives back what it returns; what it throws comes out as the same object.
   * @throws NotFoundError when the type has no handler, InvalidPayloadError when the schema refuses the input, the signal's
   * reason when it has aborted: the handler did not run. An abort later on is for the handler to notice.
   */
  send<K extends keyof M & string>(type: K, input: M[K]['in'], options?: SendOptions): Promise<M[K]['out']>

  /**
   * Wraps every send that begins from now on. The first middleware is the outermost; inside the last one the handler is
   * looked up, the input validated and the handler called, so that middleware sees refusals too.
   */
  use(...middleware: readonly Middleware[]): void
}

/** Answers one type of message. `input` is as the schema gave it back. */
export type BusHandler<T extends { readonly in: unknown; readonly out: unknown }> = (
  input: T['in'],
  context: BusContext,
) => T['out'] | PromiseLike<T['out']>

/** How a type of message is handled. */
export interface BusHandlerOptions<T extends { readonly in: unknown }> {
  /** Checks the input of every message. @defaultValue none: the input is taken as it comes */
  readonly schema?: StandardSchema<T['in']> | undefined
}

/**
 * What a handler is told beside the input. It fits the last parameter of `append` and `Repository.handle` as it is: then
 * the events carry the metadata, and the same message sent twice writes once.
 */
export interface BusContext {
  /** Id of this message. */
  readonly messageId: string
  /** What makes a repeated append of this message harmless. */
  readonly idempotencyKey: string
  /** For what the handler causes: the sender's metadata, with this message as `causationId`. */
  readonly metadata: Metadata & { readonly correlationId: string; readonly causationId: string }
  /** Aborts when the sender has lost interest. Made when first read. */
  readonly signal: AbortSignal
}

/** How one message is sent. */
export interface SendOptions {
  /** Id of the message: give the same one when you send it again. @defaultValue a random UUID */
  readonly messageId?: string | undefined
  /** What `append` remembers the message by. @defaultValue `messageId` */
  readonly idempotencyKey?: string | undefined
  /**
   * What is known about the message: `correlationId` of the conversation (`messageId` when absent), `causationId` of the
   * message or event that led to this one, and whatever else should reach the events.
   */
  readonly metadata?: Metadata | undefined
  /** Aborting it before the handler starts keeps it from running; afterwards the handler sees it. */
  readonly signal?: AbortSignal | undefined
}

/** A message on its way, as middleware sees it. */
export interface BusMessage {
  /** Which bus it is on. */
  readonly kind: 'command' | 'query'
  /** What its handler is found by. */
  readonly type: string
  /** As it was sent: not yet validated. */
  readonly input: unknown
  /** The sender's, or a random UUID. */
  readonly messageId: string
  /** The sender's, or `messageId`. */
  readonly idempotencyKey: string
  /** The sender's metadata, with a `correlationId` in any case. */
  readonly metadata: Metadata & { readonly correlationId: string }
  /** Made when first read. */
  readonly signal: AbortSignal
}

/**
 * Runs around every message. `next` runs the rest and may be called again (a retry) or not at all (then the handler does not
 * run); changes that it is given hold for the rest. What the middleware returns or throws is what the sender gets.
 */
export type Middleware = (message: BusMessage, next: (changes?: MessageChanges) => Promise<unknown>) => unknown

/** What a middleware may change for what is further inside. */
export interface MessageChanges {
  /** Added to the metadata, key by key. */
  readonly metadata?: Metadata | undefined
  /** Instead of the signal so far; usually one that follows it. */
  readonly signal?: AbortSignal | undefined
}
