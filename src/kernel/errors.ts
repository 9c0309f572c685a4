/** One symbol for every copy of the package in a process (ESM, CommonJS, two versions): `instanceof` can't see across them. */
const FAMILY = Symbol.for('holdfast.error')

/** What an error of this library says about the work: see the class of the same name. */
export type ErrorFamily = 'invalid' | 'rejected' | 'conflict' | 'uncertain' | 'failed'

/** Base of every error this library creates. Tell them apart with {@link isHoldfastError}, never with `instanceof`. */
export abstract class HoldfastError extends Error {
  /** Stable, machine-readable, part of the public contract: `'CIRCUIT_OPEN'`, `'TIMEOUT'`, … */
  abstract readonly code: string

  /** As the class is called; on the prototype, so that a stack trace is headed by it. */
  override get name(): string {
    return 'HoldfastError' // written out in each class, because bundlers rename classes
  }

  /** What it says about the work. */
  get family(): ErrorFamily {
    return 'failed'
  }

  static {
    // Only here: a class with a static block stays in a user's bundle, wanted or not.
    Object.defineProperty(this.prototype, FAMILY, {
      get(this: HoldfastError) {
        return this.family
      },
    })
  }
}

/** A mistake in the caller's code, found before anything ran or changed. */
export class InvalidOptionError extends HoldfastError {
  readonly code = 'INVALID_OPTION'

  override get name(): string {
    return 'InvalidOptionError'
  }

  override get family(): ErrorFamily {
    return 'invalid'
  }
}

/** A value from outside (command, event, message, cached value) that its schema or the codec refuses. Nothing was done with it. */
export class InvalidPayloadError extends HoldfastError {
  readonly code = 'INVALID_PAYLOAD'

  /** @param issues what is wrong and where, in the order found; may be empty. */
  constructor(
    message: string,
    readonly issues: readonly PayloadIssue[] = [],
    options?: ErrorOptions,
  ) {
    super(message, options)
  }

  override get name(): string {
    return 'InvalidPayloadError'
  }

  override get family(): ErrorFamily {
    return 'invalid'
  }
}

/** One thing wrong with a payload. */
export interface PayloadIssue {
  /** For people. */
  readonly message: string
  /** Property names and array indexes from the top; empty for the payload itself. */
  readonly path: readonly (string | number)[]
}

/** What was asked for by name or id does not exist. Nothing was changed. */
export class NotFoundError extends HoldfastError {
  readonly code = 'NOT_FOUND'

  override get name(): string {
    return 'NotFoundError'
  }

  override get family(): ErrorFamily {
    return 'invalid'
  }
}

/** Refused before the user's function ran, so another try is safe. */
export abstract class RejectedError extends HoldfastError {
  /** @param retryAfterMs milliseconds after which another try may pass; `undefined` when nobody knows. */
  constructor(
    message: string,
    readonly retryAfterMs?: number | undefined,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }

  override get name(): string {
    return 'RejectedError'
  }

  override get family(): ErrorFamily {
    return 'rejected'
  }
}

/** Used after `close()`. The user's function did not run. */
export class ClosedError extends RejectedError {
  readonly code = 'CLOSED'

  override get name(): string {
    return 'ClosedError'
  }
}

/** Someone else was first: **nothing was written**. Load again and decide again. */
export abstract class ConflictError extends HoldfastError {
  override get name(): string {
    return 'ConflictError'
  }

  override get family(): ErrorFamily {
    return 'conflict'
  }
}

/** It **may or may not have happened**. Check, or try again if the work is idempotent. */
export abstract class UncertainError extends HoldfastError {
  override get name(): string {
    return 'UncertainError'
  }

  override get family(): ErrorFamily {
    return 'uncertain'
  }
}

/** The time allowed ran out. The function had started; it may still be running and may have had its effect. */
export class TimeoutError extends UncertainError {
  readonly code = 'TIMEOUT'

  /** @param timeoutMs the limit that ran out, in milliseconds. */
  constructor(
    message: string,
    readonly timeoutMs: number,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }

  override get name(): string {
    return 'TimeoutError'
  }
}

/** A server did not answer, or answered with an error. `cause` is what its driver threw. */
export class StoreError extends UncertainError {
  readonly code = 'STORE_FAILED'

  override get name(): string {
    return 'StoreError'
  }
}

/** What was stored can't be read. The message says where it stands; nothing was changed. */
export class CorruptDataError extends HoldfastError {
  readonly code = 'CORRUPT_DATA'

  override get name(): string {
    return 'CorruptDataError'
  }
}

/**
 * Whether `error` comes from this library, from any copy of it, and has this `code` if one is given.
 * For the classes of this library, `isHoldfastError(e, 'TIMEOUT')` is all one needs.
 */
export function isHoldfastError(error: unknown, code?: string): error is HoldfastError {
  return familyOf(error) !== undefined && (code === undefined || (error as HoldfastError).code === code)
}

/** Whether `error` means that the user's function did not run, so that another try is safe. */
export function isRejectedError(error: unknown): error is RejectedError {
  return familyOf(error) === 'rejected'
}

/** Whether `error` means that someone else was first and nothing was written. */
export function isConflictError(error: unknown): error is ConflictError {
  return familyOf(error) === 'conflict'
}

/** Whether `error` means that the work may or may not have happened. */
export function isUncertainError(error: unknown): error is UncertainError {
  return familyOf(error) === 'uncertain'
}

/** The family of an error of this library; `undefined` for any other value. Never throws, whatever was thrown. */
export function familyOf(error: unknown): ErrorFamily | undefined {
  try {
    return error instanceof Error ? (error as { [FAMILY]?: ErrorFamily })[FAMILY] : undefined
  } catch {
    return undefined // a proxy with a trap that throws
  }
}

/** What was thrown, in words. Never throws, whatever it was. */
export function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? error.message : String(error)
  } catch {
    return 'something that has no text'
  }
}

/**
 * Makes an error without a stack trace: for refusals, which come in thousands when things go wrong, and for timeouts, whose
 * stack shows only timers. A trace costs more than all the rest of a refused call, and more the deeper the caller stands.
 * @internal
 */
export function withoutStack<E extends Error>(make: () => E): E {
  const limit = Error.stackTraceLimit
  Reflect.set(Error, 'stackTraceLimit', 0) // does nothing where a host has frozen its intrinsics
  try {
    return make()
  } finally {
    Reflect.set(Error, 'stackTraceLimit', limit)
  }
}
