import { RejectedError } from '../kernel/errors.js'

/** A group holds as many messages as it may: **nothing was stored**, for no group. Publish again when it has caught up. */
export class BacklogFullError extends RejectedError {
  readonly code = 'BACKLOG_FULL'

  /** @param group the group that can take no more. @param limit how many messages it may hold. */
  constructor(
    readonly group: string,
    readonly limit: number,
  ) {
    super(`group ${JSON.stringify(group)} already holds ${limit} messages, or would with these`)
  }

  override get name(): string {
    return 'BacklogFullError'
  }
}

/** No group takes a message of this type, and the bus was told to insist on one: **nothing was stored**. */
export class UnroutedError extends RejectedError {
  readonly code = 'UNROUTED'

  /** @param type the type that nobody takes. */
  constructor(readonly type: string) {
    super(`no group takes messages of type ${JSON.stringify(type)}`)
  }

  override get name(): string {
    return 'UnroutedError'
  }
}
