import { ConflictError, HoldfastError, type ErrorFamily } from '../kernel/errors.js'
import type { Event, Recorded } from './event.js'
import type { ExpectedVersion, Query } from './store.js'

/** The most events that a {@link VersionConflictError} carries. */
export const MOST_MISSED = 1_000

/** The stream was not as expected, or the log not as a condition says. Nothing was written. */
export class VersionConflictError<E extends Event = Event> extends ConflictError {
  readonly code = 'VERSION_CONFLICT'

  /**
   * @param stream `undefined` when a condition (`unless`) does not hold: then `expected` and `actual` are positions in the log, that
   * of the condition and that of the last event that breaks it.
   * @param actual the stream's last version; 0 if it does not exist.
   * @param missed what was recorded after the version expected, oldest first: up to `actual`, but no more than 1,000 and
   * less what was truncated. Empty when the expectation has no version (`'exists'`) or one that lies ahead. Of a condition: the
   * events that break it; when there are more than 1,000, the first ones.
   * @param query of the condition that does not hold.
   */
  constructor(
    readonly stream: string | undefined,
    readonly expected: ExpectedVersion,
    readonly actual: number,
    readonly missed: readonly Recorded<E>[],
    readonly query?: Query,
  ) {
    super(
      stream === undefined
        ? `events that ${JSON.stringify(query)} picks were recorded after position ${expected}, up to ${actual}`
        : `stream ${JSON.stringify(stream)} is at version ${actual}, expected ${expected}`,
    )
  }

  override get name(): string {
    return 'VersionConflictError'
  }
}

/** The stream was tombstoned: its events are gone and its name is spent. Nothing was changed. */
export class TombstonedError extends HoldfastError {
  readonly code = 'TOMBSTONED'

  constructor(readonly stream: string) {
    super(`stream ${JSON.stringify(stream)} was tombstoned`)
  }

  override get name(): string {
    return 'TombstonedError'
  }

  override get family(): ErrorFamily {
    return 'invalid'
  }
}

/** The stream takes no more events: it is archived, or its decider calls its state terminal. Nothing was written. */
export class StreamClosedError extends HoldfastError {
  readonly code = 'STREAM_CLOSED'

  constructor(
    readonly stream: string,
    why: 'is archived' | 'has come to its end',
  ) {
    super(`stream ${JSON.stringify(stream)} ${why}: it takes no more events`)
  }

  override get name(): string {
    return 'StreamClosedError'
  }

  override get family(): ErrorFamily {
    return 'invalid'
  }
}

/** The subject's key was destroyed: nothing can be encrypted for it any more. Nothing was written. */
export class ShreddedError extends HoldfastError {
  readonly code = 'SHREDDED'

  constructor(readonly subject: string) {
    super(`the key of subject ${JSON.stringify(subject)} was destroyed`)
  }

  override get name(): string {
    return 'ShreddedError'
  }

  override get family(): ErrorFamily {
    return 'invalid'
  }
}

/** Another owner has taken over the subscription: what was to be committed under the old lease was not. */
export class FencedError extends ConflictError {
  readonly code = 'FENCED'

  constructor(readonly subscription: string) {
    super(`subscription ${JSON.stringify(subscription)} has another owner by now`)
  }

  override get name(): string {
    return 'FencedError'
  }
}
