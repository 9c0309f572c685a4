/** What we call of a connection of amqplib (its promise API), 0.10 and newer. */
export interface AmqpConnection {
  /** A channel for consuming and declaring. */
  createChannel(): Promise<AmqpChannel>
  /** A channel on which the broker confirms what is published. */
  createConfirmChannel(): Promise<AmqpConfirmChannel>
  /** `'close'`, `'error'`, `'blocked'` and `'unblocked'` are listened to. */
  on(event: string, listener: (...args: never[]) => void): unknown
  /** Ends it and its channels. */
  close(): Promise<void>
}

/** A message as a channel brings it. */
export interface AmqpMessage {
  /** The body. */
  readonly content: Buffer
  /** The delivery tag is read by the channel only. */
  readonly fields: object
  /** What stands beside the body. */
  readonly properties: {
    /** Which message was returned. */
    readonly correlationId?: unknown
    /** The mark of a message that is for this library alone. */
    readonly type?: unknown
    /** The mark of a message that is for this library alone. */
    readonly messageId?: unknown
    /** Where the broker counts, and what does not fit into the body. */
    readonly headers?: Record<string, unknown> | undefined
  }
}

/** How many messages are ready, and how many consumers there are. */
export interface AmqpQueueState {
  /** Those that are ready. */
  readonly messageCount: number
  /** Waiting ones too. */
  readonly consumerCount: number
}

/** What we call of a channel. */
export interface AmqpChannel {
  /** `'close'`, `'error'` and `'return'` are listened to. */
  on(event: string, listener: (...args: never[]) => void): unknown
  /** Ends it. */
  close(): Promise<void>
  /** Declares an exchange. */
  assertExchange(name: string, type: string, options?: object): Promise<unknown>
  /** Declares a queue. */
  assertQueue(name: string, options?: object): Promise<unknown>
  /** Where a queue stands; ends the channel when there is none. */
  checkQueue(name: string): Promise<AmqpQueueState>
  /** Removes a queue; harmless when there is none. */
  deleteQueue(name: string): Promise<unknown>
  /** Binds a queue to an exchange. */
  bindQueue(queue: string, exchange: string, routingKey: string): Promise<unknown>
  /** Ends a binding. */
  unbindQueue(queue: string, exchange: string, routingKey: string): Promise<unknown>
  /** For consumers that begin from now on. */
  prefetch(count: number): Promise<unknown>
  /** Begins to take messages; `null` when the broker has ended that. */
  consume(queue: string, onMessage: (message: AmqpMessage | null) => void): Promise<{ consumerTag: string }>
  /** Ends what {@link consume} began. */
  cancel(consumerTag: string): Promise<unknown>
  /** Takes one message; `false` when there is none. */
  get(queue: string): Promise<AmqpMessage | false>
  /** The message is done. */
  ack(message: AmqpMessage): void
  /** The message is not done. */
  nack(message: AmqpMessage, allUpTo?: boolean, requeue?: boolean): void
}

/** What we call of a channel that confirms. */
export interface AmqpConfirmChannel extends AmqpChannel {
  /** Sends a message; the callback hears whether the broker has it. */
  publish(
    exchange: string,
    routingKey: string,
    content: Buffer,
    options?: object,
    callback?: (error: unknown) => void,
  ): boolean
}
