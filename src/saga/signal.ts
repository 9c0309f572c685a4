import { checkString } from '../kernel/check.js'
import { checkSchema, type StandardSchema } from '../kernel/schema.js'

declare const payload: unique symbol

/** A named message from outside that a saga can wait for. Made by {@link signal}. */
export interface SagaSignal<T = unknown> {
  /** What sender and saga know it by. Not empty. */
  readonly name: string
  /** Checks each payload when it is sent. */
  readonly schema?: StandardSchema<T> | undefined
  /** @internal carries `T` */
  readonly [payload]?: T
}

/**
 * Declares a signal: `const approved = signal<{ by: string }>('approved')`.
 * @param name what sender and saga know it by; not empty
 * @param schema validator of the payload (zod, valibot, arktype); none: any value the codec can store
 * @throws InvalidOptionError when the name is empty, or the schema is none.
 */
export function signal<T>(name: string, schema?: StandardSchema<T>): SagaSignal<T> {
  if (schema !== undefined) checkSchema('schema', schema)
  return { name: checkString('name', name), schema }
}
