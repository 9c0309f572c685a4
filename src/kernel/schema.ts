import { InvalidPayloadError } from './errors.js'

/** A validator of zod, valibot, arktype and others. Source: Standard Schema v1, https://standardschema.dev. */
export interface StandardSchema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined
  }
}

/** What a Standard Schema answers: the (possibly transformed) value, or what is wrong. */
export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | {
      readonly issues: readonly {
        readonly message: string
        readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
      }[]
    }

/**
 * `value` as `schema` gives it back; unchanged without a schema.
 * @param what names the payload in the message: `command 'PlaceOrder'`
 * @throws InvalidPayloadError with every issue and its path.
 */
export async function validate<T>(schema: StandardSchema<T> | undefined, value: unknown, what: string): Promise<T> {
  if (!schema) return value as T
  const result = await schema['~standard'].validate(value)
  if (!result.issues) return result.value
  const issues = result.issues.map(({ message, path = [] }) => ({
    message,
    path: path.map((part) => {
      const key = typeof part === 'object' ? part.key : part
      return typeof key === 'number' ? key : String(key)
    }),
  }))
  const list = issues.map(({ message, path }) => (path.length > 0 ? `${path.join('.')}: ${message}` : message))
  throw new InvalidPayloadError(`${what} is not valid: ${list.join('; ')}`, issues)
}
