import { checkFunction, checkInteger, checkMethods, checkObject, checkString, invalid } from '../kernel/check.js'
import { InvalidPayloadError } from '../kernel/errors.js'
import { checkSchema, validateNow, type StandardSchema } from '../kernel/schema.js'
import type { Envelope, Event } from './event.js'

/** What is known of a type of event: what its data must be, how old data becomes new, what in it is personal. */
export interface EventDef<D = unknown> {
  /** Checks the data when it is appended; what it gives back is stored. Not asked again when it is read. @defaultValue anything goes */
  readonly schema?: StandardSchema<D> | undefined
  /** Which shape the data has now. Integer ≥ 1; count it up when the shape changes, and give `up` for the last one. @defaultValue 1 */
  readonly revision?: number | undefined
  /** `up[n]` makes data of revision n + 1 of data of revision n, when it is read. Pure, not async. Personal fields may be `undefined`. */
  readonly up?: Readonly<Record<number, (old: never, event: Envelope) => unknown>> | undefined
  /** What is encrypted under the key of whom it is about. @defaultValue nothing */
  readonly personal?: Personal<D> | undefined
}

/** Fields that can be made unreadable for good. */
export interface Personal<D = unknown> {
  /** Whom the event is about: an id, which is stored in the clear. Not empty. */
  subject(data: D): string
  /** Top-level fields of the data, which must be a plain object. What is not there is left alone. */
  readonly fields: readonly (unknown extends D ? string : keyof D & string)[]
}

/** By type of event. */
export type Catalog<E extends Event = Event> = {
  readonly [T in E['type']]?: EventDef<Extract<E, { readonly type: T }>['data']> | undefined
}

type Upcast = (old: unknown, event: Envelope) => unknown

/** A type of event, checked. */
export interface Definition {
  readonly type: string
  readonly schema: StandardSchema | undefined
  readonly revision: number
  readonly up: ReadonlyMap<number, Upcast>
  readonly personal: Personal | undefined
}

/** Any name is a type, also one that every object has. @throws InvalidOptionError. */
export function definitionsOf(catalog: Catalog): ReadonlyMap<string, Definition> {
  return new Map(
    Object.entries(checkObject('catalog', catalog)).flatMap(([type, def]) =>
      def ? [[type, definition(type, def)]] : [],
    ),
  )
}

function definition(type: string, { schema, revision = 1, up = {}, personal }: EventDef): Definition {
  const option = `catalog[${JSON.stringify(type)}]`
  if (schema !== undefined) checkSchema(`${option}.schema`, schema)
  checkInteger(`${option}.revision`, revision, 1)
  const ups = Object.entries(checkObject(`${option}.up`, up)).map(([from, upcast]) => {
    checkInteger(`key of ${option}.up`, Number(from), 1, Math.max(1, revision - 1))
    return [Number(from), checkFunction(`${option}.up[${from}]`, upcast) as Upcast] as const
  })
  if (personal !== undefined) {
    const { fields } = checkMethods(`${option}.personal`, personal, ['subject'])
    if (!Array.isArray(fields)) invalid(`${option}.personal.fields`, 'an array', fields)
    for (const field of fields) checkString(`${option}.personal.fields`, field, 0)
  }
  return { type, schema, revision, up: new Map(ups), personal }
}

/** Of an event, the type and the data that its schema gave back: these are not to be validated again. Copied with the event. */
export const VALID = Symbol.for('holdfast.valid-event')

/** A store that can check events before they are appended. */
export interface Validating<E extends Event> {
  /** The events as they would be stored, for {@link EventStore.append}. @throws InvalidPayloadError. */
  [VALIDATE](events: readonly E[]): Promise<readonly E[]>
}

/** For whoever needs to know what would be stored. */
export const VALIDATE: unique symbol = Symbol.for('holdfast.validate-events') as never

/** `events` as `store` would store them. */
export async function validated<E extends Event>(store: object, events: readonly E[]): Promise<readonly E[]> {
  return VALIDATE in store && events.length > 0 ? (store as Validating<E>)[VALIDATE](events) : events
}

/** `event` with its data as its definition wants it. @throws InvalidPayloadError. */
export async function validEvent<E extends Event>(event: E, wanted: Definition): Promise<E> {
  if (isValid(event, wanted)) return event
  const data = await validData(event, wanted)
  return { ...event, data, [VALID]: { type: wanted.type, data } }
}

/** The data of `event` as its definition wants it; a promise only where its schema gives one. @throws InvalidPayloadError. */
export function validData(event: Event, wanted: Definition): unknown {
  const { data } = event
  const { type, schema } = wanted
  return isValid(event, wanted) ? data : validateNow(schema, data, `event ${JSON.stringify(type)}`)
}

function isValid(event: Event, { type }: Definition): boolean {
  const { [VALID]: valid } = event as { [VALID]?: { type: string; data: unknown } }
  return valid?.type === type && valid.data === event.data // else a copy was made, and changed
}

/** Whether it is an object of no class. */
export function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** Whom the event's data is about. @throws InvalidPayloadError when it doesn't say so, or is no plain object with strings as keys. */
export function subjectOf(data: unknown, { type, personal }: Definition): string {
  const wrong = (what: string): never => {
    throw new InvalidPayloadError(`event ${JSON.stringify(type)} is not valid: ${what}`)
  }
  if (!isPlainObject(data)) return wrong('personal fields need a plain object around them')
  // Refused by the codec too, which is not given this object.
  if (Object.getOwnPropertySymbols(data).length > 0) return wrong("an object with symbols as keys can't be stored")
  const subject: unknown = personal?.subject(data)
  return typeof subject === 'string' && subject.length > 0 ? subject : wrong('its subject is not a string, or empty')
}
