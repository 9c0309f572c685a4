import type { Backoff } from '../kernel/backoff.js'
import type { StandardSchema } from '../kernel/schema.js'
import type { DeadLetters } from './dead-letters.js'
import type { Inbox } from './inbox.js'
import type { MessageOf, OutgoingMessageOf } from './message.js'

/**
 * Messages from those who know that something happened to those who want to know. Delivery is at least once: whoever must
 * not act twice remembers `message.id`. Contract: `test/conformance/event-bus.ts`.
 *
 * `Messages` maps each type to its data: `interface Shop { OrderPlaced: { orderId: string } }`.
 */
export interface EventBus<Messages extends object = Record<string, unknown>> {
  /**
   * Hands over one message, or several in their order. Resolves when each is stored for every group that takes its type;
   * what the caller changes afterwards changes nothing. Calls made one after another keep their order, awaited or not.
   * @throws InvalidOptionError when a message is malformed, InvalidPayloadError when its data does not fit its schema or
   * can't be stored, BacklogFullError when a group can take no more, ClosedError after `close()`: none was stored.
   * @throws StoreError when the broker does not answer: each may or may not have been stored.
   */
  publish(messages: OutgoingMessageOf<Messages> | readonly OutgoingMessageOf<Messages>[]): Promise<void>

  /**
   * Begins to take messages for a group. A group gets every message of its types that is published from its first
   * subscription on, also while none of its subscriptions is open. Subscriptions of one group share its messages, each
   * message goes to one of them; groups do not notice each other.
   * @throws InvalidOptionError for an option out of its range, for other `types` than the group's open subscriptions have, and
   * for another `order` than the group has, once and for all: nothing changed.
   * @throws ClosedError after `close()`.
   */
  subscribe<Type extends keyof Messages & string, Tx = undefined>(
    options: SubscribeOptions<Messages, Type, Tx>,
  ): Promise<BusSubscription>

  /** The messages that `group` could not handle. A group that nobody has subscribed has none. */
  deadLetters(group: string): DeadLetters<Messages>

  /**
   * Forgets a group for good: its waiting messages and its dead letters are gone, and new ones are not kept for it.
   * Harmless when there is no such group.
   * @throws InvalidOptionError while one of its subscriptions is open: nothing changed.
   */
  deleteGroup(group: string): Promise<void>

  /**
   * Closes every subscription, then refuses to publish. Calling it again gives the same promise. As with
   * {@link BusSubscription.close}, a handler must not await it.
   */
  close(): Promise<void>
  /** {@link close} */
  [Symbol.asyncDispose](): Promise<void>
}

/** What a subscription takes and how. */
export interface SubscribeOptions<
  Messages extends object = Record<string, unknown>,
  Type extends keyof Messages & string = keyof Messages & string,
  Tx = undefined,
> {
  /** Any string that is not empty: usually the name of the service, or of the one thing it does with these messages. */
  readonly group: string
  /** The types to take, at least one, compared as they stand; `'*'` instead of a list takes all. */
  readonly types: readonly Type[] | '*'
  /**
   * Called once per delivery. When it resolves, the message is done; when it throws, the message is tried again or becomes
   * a dead letter.
   */
  readonly handle: (message: MessageOf<Messages, Type>, context: DeliveryContext<Tx>) => unknown
  /** Most handlers of this subscription at one time. Integer ≥ 1. @defaultValue 10 */
  readonly concurrency?: number | undefined
  /**
   * `'key'`: the messages of one key are handled one after another, in the order in which they were published; one that
   * fails holds back its own key only, until it is done or a dead letter. `'none'`: as they come, side by side. Messages
   * without a key are in no order either way. @defaultValue 'key'
   */
  readonly order?: 'key' | 'none' | undefined
  /**
   * Makes the effect of each message count once: the handler writes through `context.tx`, and a message that was handled is not handled
   * again. @defaultValue none: a handler may see a message twice
   */
  readonly inbox?: Inbox<Tx> | undefined
  /** When and how often a message is tried again. */
  readonly retry?: RedeliveryOptions | undefined
  /**
   * A validator per type; a type without one is not checked. The handler gets what the validator gives back. A message that
   * does not fit becomes a dead letter at once: the handler does not see it.
   */
  readonly schema?: { readonly [T in Type]?: StandardSchema<Messages[T]> | undefined } | undefined
  /**
   * How long `close()` waits for handlers that run, in milliseconds, ≥ 0; then it aborts their signal and gives their
   * messages back to the group. `Infinity` waits for good. @defaultValue 10_000
   */
  readonly graceMs?: number | undefined
}

/** What happens to a message whose handler threw. */
export interface RedeliveryOptions {
  /** Deliveries before a message becomes a dead letter, the first included. Integer ≥ 1. @defaultValue 5 */
  readonly attempts?: number | undefined
  /**
   * The wait before the next delivery; it takes no handler's place and holds back no other message, but those of the same
   * key with `order: 'key'`. `exponential()` of `holdfast/resilience` is one.
   * @defaultValue from 200 ms, doubled each time up to 30 s, half of it at random
   */
  readonly backoff?: Backoff | undefined
  /**
   * Whether trying again may help; `false` makes a dead letter at once. Is not asked when the last attempt has failed.
   * @defaultValue all but `InvalidOptionError`, `InvalidPayloadError` and `NotFoundError` of this library
   */
  readonly retryOn?: ((error: unknown) => boolean) | undefined
}

/** What a handler is told about the delivery. */
export interface DeliveryContext<Tx = undefined> {
  /** Which delivery of this message to this group this is, from 1; begins anew when a dead letter is requeued. */
  readonly attempt: number
  /**
   * Aborts when the message is no longer this handler's: `close()` has stopped waiting and given it back, or the broker has
   * taken it back. Made when first read.
   */
  readonly signal: AbortSignal
  /** The transaction of the subscription's `inbox`; `undefined` without one. */
  readonly tx: Tx
}

/** An open subscription. */
export interface BusSubscription {
  /** The group whose messages it shares. */
  readonly group: string
  /**
   * Takes no new message, waits for the handlers that run up to `graceMs`, and gives the rest back to the group, where it
   * waits for other subscriptions, now or later. What a handler does after its message was given back no longer counts.
   * A handler may call it, but must not await it: it would wait for itself, until `graceMs` ends it.
   * Never rejects. Calling it again gives the same promise.
   */
  close(): Promise<void>
  /** {@link close} */
  [Symbol.asyncDispose](): Promise<void>
}
