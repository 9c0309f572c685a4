import { reportError } from '../kernel/report.js'
import type { AmqpChannel, AmqpMessage } from './rabbitmq-client.js'
import { endChannel } from './rabbitmq-answers.js'

/**
 * A channel on which a group consumes, from its beginning to its end. Delivery tags begin anew on each channel: an answer that comes after the
 * end of its own is dropped, on the next it would speak of another message.
 */
export class Tap {
  #prefetch = 0
  #alive = true
  /** Why the broker has ended it, if it did. */
  why: unknown

  /** @param onEnd called once when the channel is of no use any more, for whatever reason but {@link close}. */
  constructor(
    private readonly channel: AmqpChannel,
    private readonly onEnd: () => void,
  ) {
    channel.on('error', (error: unknown) => (this.why = error))
    channel.on('close', () => this.#end())
  }

  get alive(): boolean {
    return this.#alive
  }

  /** Takes messages of a queue, `most` unanswered at a time. @returns ends that */
  async consume(queue: string, most: number, onMessage: (message: AmqpMessage) => void): Promise<() => Promise<void>> {
    if (most !== this.#prefetch) {
      this.#prefetch = most // counts for the consumers that begin after it; what is asked of a channel is answered in order
      this.channel.prefetch(most).catch(() => this.fail())
    }
    const { consumerTag } = await this.channel.consume(queue, (message) => {
      if (!this.#alive) return
      if (message) onMessage(message)
      else this.fail() // the broker has cancelled: the queue was deleted or has moved
    })
    return async () => {
      if (this.#alive) await this.channel.cancel(consumerTag).catch(() => {}) // it has ended with its channel
    }
  }

  /** Where a queue stands. */
  check(queue: string): ReturnType<AmqpChannel['checkQueue']> {
    return this.channel.checkQueue(queue)
  }

  ack(message: AmqpMessage): void {
    this.#answer(() => this.channel.ack(message))
  }

  /** Gives it back to its queue. */
  nack(message: AmqpMessage): void {
    this.#answer(() => this.channel.nack(message, false, true))
  }

  /** Leaves it to the broker to do with it what its queue says: to put it among the dead letters, as it is. */
  reject(message: AmqpMessage): void {
    this.#answer(() => this.channel.nack(message, false, false))
  }

  /** Ends the channel as if the broker had: what is unanswered is delivered again, on another. */
  fail(): void {
    this.channel.close().catch(() => {})
    this.#end()
  }

  /** Ends the channel when all answers are sent. What is unanswered goes back. */
  async close(): Promise<void> {
    if (!this.#alive) return
    this.#alive = false
    await endChannel(this.channel)
  }

  #answer(send: () => void): void {
    if (!this.#alive) return
    try {
      send()
    } catch (error) {
      reportError(error)
      this.#end()
    }
  }

  #end(): void {
    if (!this.#alive) return
    this.#alive = false
    this.onEnd()
  }
}
