import { show } from '../kernel/check.js'
import type { MessageHeaders, MessageOf } from './message.js'

/** The messages of one group that nobody could handle: kept until someone requeues or drops them. */
export interface DeadLetters<Messages extends object = Record<string, unknown>> {
  /** The first `limit` of them, the longest dead first. @param limit integer ≥ 1. @defaultValue 100 */
  list(limit?: number): Promise<DeadLetter<MessageOf<Messages>>[]>
  /**
   * Delivers the message again, behind those of its key that wait, with its attempts counted from 1. Of a message that was
   * published twice and died twice, both.
   * @throws NotFoundError when there is none with this message id: nothing changed.
   */
  requeue(id: string): Promise<void>
  /** Forgets the message for good. @throws NotFoundError when there is none with this message id: nothing changed. */
  drop(id: string): Promise<void>
}

/** A message that could not be handled, and why. */
export interface DeadLetter<M = unknown> {
  /** The message's id. */
  readonly id: string
  /**
   * The message as it was published: id, headers and time too. Where what is stored can't be read, which `lastError` says, it is without
   * data and headers.
   */
  readonly message: M
  /** The message's headers: by its trace and its conversation others find what led here. */
  readonly headers: MessageHeaders
  /**
   * `'attempts'`: the last attempt failed, or a broker has handed it out so often that it must be what ends its handlers. `'rejected'`: `retryOn` said that trying again is no use. `'invalid'`: the data
   * did not fit the subscription's schema. `'unhandled'`: it waited for the group, whose subscriptions no longer take its type.
   */
  readonly reason: 'attempts' | 'rejected' | 'invalid' | 'unhandled'
  /** How often its handler ran, or was about to when the data was refused. 0 when nobody took its type. */
  readonly attempts: number
  /** What the first attempt that failed threw: usually nearest to the cause. */
  readonly firstError: RecordedFailure
  /** What the last attempt threw. */
  readonly lastError: RecordedFailure
  /** When it was given up, by the wall clock. */
  readonly diedAt: Date
}

/** An error as text, as it is kept beside a dead letter. */
export interface RecordedFailure {
  /** The class of the error; `'Error'` for anything thrown that is no error. */
  readonly name: string
  /** Its message, or what was thrown, as text. */
  readonly message: string
  /** The `code` of the error, if it has one that is a string. */
  readonly code?: string | undefined
  /** Where it was made, if the error says so. */
  readonly stack?: string | undefined
}

/** What remains of anything that was thrown. Never throws itself. @internal */
export function failureOf(error: unknown): RecordedFailure {
  try {
    if (!(error instanceof Error)) return { name: 'Error', message: textOf(error) }
    const { name, message, stack, code } = error as { [K in keyof RecordedFailure]: unknown }
    return {
      name: String(name),
      message: String(message),
      ...(typeof code === 'string' ? { code } : {}),
      ...(typeof stack === 'string' ? { stack } : {}),
    }
  } catch {
    return { name: 'Error', message: 'something that throws when it is read' } // a getter, a revoked proxy
  }
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  try {
    return JSON.stringify(value) ?? show(value)
  } catch {
    return show(value)
  }
}
