import type { Clock } from '../kernel/clock.js'
import { validate, type StandardSchema } from '../kernel/schema.js'
import { completeMessage, schemasByType, type OutgoingMessage } from './message.js'
import { openMessage, sealMessage, type StoredMessage } from './stored-message.js'

/** What every bus does with messages before it stores them: makes them whole and its own, and has them checked, in order. @internal */
export class Outbound {
  readonly #schemas: ReadonlyMap<string, StandardSchema>
  /** The publish that was called last: the next one stores after it. Never rejects. */
  #last: Promise<unknown> = Promise.resolve()

  /** @throws InvalidOptionError when `schema` is none. */
  constructor(
    schema: Readonly<Record<string, StandardSchema | undefined>>,
    private readonly clock: Clock,
  ) {
    this.#schemas = schemasByType(schema)
  }

  /** Hands the messages to `store`, after those of earlier calls. @throws InvalidOptionError, InvalidPayloadError: it was not called. */
  async publish<T>(
    messages: OutgoingMessage | readonly OutgoingMessage[],
    store: (sealed: readonly StoredMessage[]) => T | Promise<T>,
  ): Promise<T> {
    const list = (Array.isArray(messages) ? messages : [messages]) as readonly OutgoingMessage[]
    const sealed = list.map((message) => sealMessage(completeMessage(message, this.clock))) // before anything waits: it is the publisher's until now
    if (this.#schemas.size === 0) return store(sealed)
    const checked = Promise.all(sealed.map((message) => this.#check(message)))
    // `store` is called in order; what it waits for is its own.
    const begun = this.#last.then(async () => ({ stored: store(await checked) }))
    this.#last = Promise.allSettled([begun, checked])
    return (await begun).stored
  }

  /** Resolves when all that was published so far has been handed to its `store`. */
  async handedOver(): Promise<void> {
    await this.#last
  }

  /** The message as its validator gives it back. */
  async #check(message: StoredMessage): Promise<StoredMessage> {
    const schema = this.#schemas.get(message.type)
    if (!schema) return message
    const opened = openMessage(message)
    return sealMessage({ ...opened, data: await validate(schema, opened.data, `message '${message.type}'`) })
  }
}
