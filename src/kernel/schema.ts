import { invalid } from './check.js'
import { InvalidPayloadError } from './errors.js'

/** A validator of zod, valibot, arktype and others. Source: Standard Schema v1, https://standardschema.dev. */
export interface StandardSchema<Output = unknown> {
  /** What makes it a Standard Schema. */
  readonly '~standard': {
    /** Of the standard. */
    readonly version: 1
    /** The validator's name. */
    readonly vendor: string
    /** The value as it should be, or what is wrong with it. */
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>
    /** For the compiler only. */
    readonly types?: SchemaTypes<Output> | undefined
  }
}

/** The types of a Standard Schema; there is no such object at run time. */
export interface SchemaTypes<Output> {
  /** What it takes. */
  readonly input: unknown
  /** What it gives back. */
  readonly output: Output
}

/** What a Standard Schema answers: the (possibly transformed) value, or what is wrong. */
export type SchemaResult<Output> = SchemaSuccess<Output> | SchemaFailure

/** The payload is valid. */
export interface SchemaSuccess<Output> {
  /** It, as the schema gives it back. */
  readonly value: Output
  /** This is how success is told from failure. */
  readonly issues?: undefined
}

/** The payload is not valid. */
export interface SchemaFailure {
  /** Everything that is wrong with it. */
  readonly issues: readonly SchemaIssue[]
}

/** One thing that is wrong with a payload, as the schema tells it. */
export interface SchemaIssue {
  /** For people. */
  readonly message: string
  /** From the top; absent or empty for the payload itself. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/** `schema` if it is a Standard Schema: an object or, as some libraries make them, a function. @throws InvalidOptionError otherwise. */
export function checkSchema<S>(option: string, schema: S): S {
  const standard = (schema as Partial<StandardSchema> | null | undefined)?.['~standard']
  return typeof standard?.validate === 'function' ? schema : invalid(option, 'a Standard Schema', schema)
}

/**
 * `value` as `schema` gives it back; unchanged without a schema.
 * @param what names the payload in the message: `command 'PlaceOrder'`
 * @throws InvalidPayloadError with every issue and its path.
 */
export async function validate<T>(schema: StandardSchema<T> | undefined, value: unknown, what: string): Promise<T> {
  return validateNow(schema, value, what)
}

/** As {@link validate}; a promise only of a validator that gives one. @throws InvalidPayloadError at once, or the promise rejects with it. */
export function validateNow<T>(schema: StandardSchema<T> | undefined, value: unknown, what: string): T | Promise<T> {
  if (!schema) return value as T
  const result = schema['~standard'].validate(value)
  if (!isPromise(result)) return validValue(result, what)
  return Promise.resolve(result).then((later) => validValue(later, what))
}

/** Whether there is something to wait for: a promise of any library. */
const isPromise = <T>(result: T | PromiseLike<T>): result is PromiseLike<T> =>
  typeof (result as Partial<PromiseLike<T>> | undefined)?.then === 'function'

function validValue<T>(result: SchemaResult<T>, what: string): T {
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
