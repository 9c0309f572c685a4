import { ConflictError } from '../kernel/errors.js'

/** A saga of this id exists with another definition or another input. Nothing was written: the first one goes on. */
export class SagaConflictError extends ConflictError {
  readonly code = 'SAGA_CONFLICT'

  /** @param sagaId the id both want. */
  constructor(
    message: string,
    readonly sagaId: string,
  ) {
    super(message)
  }

  override get name(): string {
    return 'SagaConflictError'
  }
}

/** Why a saga was not moved to another definition: see {@link SagaMigrationError}. */
export type MigrationRefusal =
  | 'ended'
  | 'busy'
  | 'other-saga'
  | 'unknown-definition'
  | 'missing'
  | 'other-kind'
  | 'other-order'
  | 'stands-before'
  | 'no-compensation'

/** A saga was not moved to another definition: it does not fit, or not now. Nothing was written: it stands where it stood. */
export class SagaMigrationError extends ConflictError {
  readonly code = 'SAGA_MIGRATION'

  /**
   * @param sagaId the saga that was left alone.
   * @param reason `'ended'`: it is completed or compensated. `'busy'`: somebody runs it at the moment; try again later. `'other-saga'`: the new definition
   * has another name. `'unknown-definition'`: the definition that it began with is neither registered nor given. Of the node at
   * `path`: `'missing'`, `'other-kind'`, `'other-order'`: it has begun, and the new definition does not have it, or as another kind, or in another
   * order. `'stands-before'`: it is new, and stands before what has begun. `'no-compensation'`: it may have to be undone, and the new definition can't.
   * @param path the node; `undefined` where it is not about one.
   */
  constructor(
    message: string,
    readonly sagaId: string,
    readonly reason: MigrationRefusal,
    readonly path?: string | undefined,
  ) {
    super(message)
  }

  override get name(): string {
    return 'SagaMigrationError'
  }
}

/**
 * A saga was begun by a definition of the same name and version but another structure. It was not touched: give the
 * changed definition a new version, and keep the old one registered until its sagas have ended, or `migrate` them.
 */
export class SagaDefinitionDriftError extends ConflictError {
  readonly code = 'SAGA_DEFINITION_DRIFT'

  /** @param sagaId the saga that was left alone. */
  constructor(
    message: string,
    readonly sagaId: string,
  ) {
    super(message)
  }

  override get name(): string {
    return 'SagaDefinitionDriftError'
  }
}
