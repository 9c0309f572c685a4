import type { Clock } from '../kernel/clock.js'
import { familyOf, isHoldfastError, messageOf, StoreError } from '../kernel/errors.js'
import type { AmqpChannel } from './rabbitmq-client.js'

/**
 * Rejects with a StoreError when `promise` takes longer.
 * @param why what is known by then of what holds it up
 */
export function inTime<T>(
  promise: Promise<T>,
  { clock, timeoutMs }: { readonly clock: Clock; readonly timeoutMs: number },
  why: () => unknown = () => undefined,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = (): void => {
      const cause = why()
      const known = cause === undefined ? '' : `: ${messageOf(cause)}`
      reject(new StoreError(`RabbitMQ: no answer in ${timeoutMs} ms${known}`, { cause }))
    }
    const cancel = clock.setTimer(late, timeoutMs, { keepAlive: true })
    promise.then(resolve, reject).finally(cancel)
  })
}

/** Ends a channel. Resolves also when its connection ends meanwhile: amqplib's own promise then never settles. Never rejects. */
export function endChannel(channel: Pick<AmqpChannel, 'on' | 'close'>): Promise<void> {
  return new Promise((resolve) => {
    channel.on('close', () => resolve())
    channel.close().then(resolve, () => resolve()) // the broker ends it when it refuses something
  })
}

/** Lets go of a connection whose end the broker may not hear of, as it blocks or hangs: it would keep the process alive until it does. */
export function hangUp(connection: object): void {
  const { connection: inner } = connection as { connection?: { stream?: { destroy?: () => void } } }
  inner?.stream?.destroy?.()
}

/** The broker's reply code for a queue or exchange that is not there. */
export const NOT_FOUND = 404
/** … for a queue that belongs to another connection. */
export const RESOURCE_LOCKED = 405

/** The broker's reply code, which amqplib sets on its errors. */
export const codeOf = (error: unknown): unknown => {
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: { code?: unknown } }
  return typeof code === 'number' ? code : cause?.code
}

/** What the operator ended (320), a queue whose process is just ending (404) or has an owner (405), and the broker's own troubles (541). */
const PASSING = new Set<unknown>([320, NOT_FOUND, RESOURCE_LOCKED, 541])

/** Whether the same may succeed a little later: also when the line was lost, or nobody answered. */
export function mayPass(error: unknown): boolean {
  const code = codeOf(error)
  return isHoldfastError(error, 'STORE_FAILED') && (typeof code !== 'number' || PASSING.has(code))
}

/** `error` where it says what the broker said; else `why` the channel or the connection has ended, as far as is known. */
export const explain = (error: unknown, why: unknown): unknown =>
  typeof codeOf(error) === 'number' || familyOf(error) !== undefined ? error : (why ?? error)

export const asStoreError = (error: unknown): Error =>
  familyOf(error) !== undefined ? (error as Error) : new StoreError(`RabbitMQ: ${messageOf(error)}`, { cause: error })

/** The size that a message may have, in bytes, where the broker has ended a channel for one that was larger. */
export function sizeLimitIn(error: unknown): number | undefined {
  const [, limit] = /message size \d+ is larger than (?:configured )?max size (\d+)/.exec(messageOf(error)) ?? []
  return limit === undefined ? undefined : Number(limit)
}
