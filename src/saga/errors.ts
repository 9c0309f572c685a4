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

/**
 * A saga was begun by a definition of the same name and version but another structure. It was not touched: give the
 * changed definition a new version, and keep the old one registered until its sagas have ended.
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
