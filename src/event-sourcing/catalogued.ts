import { checkMethods, checkObject, checkOneOf, invalid } from '../kernel/check.js'
import { jsonCodec } from '../kernel/codec.js'
import type { Unsubscribe } from '../kernel/emitter.js'
import { CorruptDataError, InvalidPayloadError, isHoldfastError, messageOf } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import { orAbort } from '../kernel/signal.js'
import {
  definitionsOf,
  isPlainObject,
  subjectOf,
  VALIDATE,
  validData,
  validEvent,
  type Catalog,
  type Definition,
  type Personal,
  type Validating,
} from './catalog.js'
import { VersionConflictError } from './errors.js'
import type { Event, Metadata, Recorded } from './event.js'
import { readAllPages } from './read-all.js'
import { checkMetadata } from './request.js'
import { seal, unseal } from './seal.js'
import type {
  Append,
  Appended,
  AppendOptions,
  EventStore,
  Page,
  PageOptions,
  ReadAllOptions,
  ReadOptions,
  StreamInfo,
} from './store.js'
import type { SubjectKeys } from './subject-keys.js'

/** How a catalog is applied. */
export interface CatalogOptions {
  /** What becomes of appended events whose type is not in the catalog; those read are always let through. @defaultValue 'refuse' */
  readonly unknownTypes?: 'refuse' | 'pass' | undefined
  /** The keys for personal fields. Needed for a catalog that has some. */
  readonly keys?: SubjectKeys | undefined
}

/**
 * The key in an event's metadata under which the catalog notes what it needs to read it again; whoever reads through a catalog does
 * not see it.
 */
const NOTE = '$catalog'

/** What is noted; what is left out is 1 and none. */
interface Note {
  readonly revision?: number
  readonly subject?: string
  /** Those that are encrypted. */
  readonly fields?: readonly string[]
}

/** Keys by subject, of those that there are. */
type Keys = ReadonlyMap<string, Uint8Array>
const NO_KEYS: Keys = new Map()

/**
 * `store` with a catalog in front of it: data is validated when it is appended, brought up to date when it is read, and personal
 * fields are encrypted in between. Everybody who appends or reads such events goes through it. `close` closes `store`.
 * - `append` throws InvalidPayloadError, with the type of the event and the path, for data that its schema refuses, for an event that is not in the
 *   catalog, and ShreddedError for a subject whose key was destroyed: nothing was written.
 * - Reading throws CorruptDataError, with the event's place, when an upcaster fails or is missing, when the event was written by a newer
 *   revision than the catalog's, when an encrypted field was tampered with, and when what the catalog noted of the event can't be read.
 * @throws InvalidOptionError when a definition is wrong, or has personal fields and there are no keys.
 */
export function catalogued<E extends Event>(
  store: EventStore<E>,
  catalog: Catalog<NoInfer<E>>,
  options: CatalogOptions = {},
): EventStore<E> {
  return new CataloguedStore(store, definitionsOf(catalog), options)
}

class CataloguedStore<E extends Event> implements EventStore<E>, Validating<E> {
  declare readonly __event?: EventStore<E>['__event']
  readonly #store: EventStore<E>
  readonly #definitions: ReadonlyMap<string, Definition>
  readonly #keys: SubjectKeys | undefined
  readonly #pass: boolean

  constructor(store: EventStore<E>, definitions: ReadonlyMap<string, Definition>, options: CatalogOptions) {
    const { unknownTypes = 'refuse', keys } = checkObject('options', options)
    this.#store = checkMethods('store', store, ['append', 'appendAll', 'read', 'readPage'])
    this.#definitions = definitions
    this.#pass = checkOneOf('unknownTypes', unknownTypes, ['refuse', 'pass']) === 'pass'
    const personal = [...definitions.values()].some((definition) => definition.personal)
    this.#keys =
      personal || keys !== undefined ? checkMethods('keys', keys as SubjectKeys, ['ensure', 'get', 'shred']) : undefined
  }

  async append<T extends E>(
    stream: string,
    events: readonly T[],
    options: AppendOptions & Pick<Append, 'expectedVersion' | 'unless'> = {},
  ): Promise<Appended<T>> {
    options.signal?.throwIfAborted()
    const sealing = this.#sealed(events, options)
    const sealed = sealing instanceof Promise ? await orAbort(sealing, options.signal) : sealing
    let appended: Appended<T>
    try {
      appended = await this.#store.append<T>(stream, sealed, options)
    } catch (error) {
      throw await this.#readError(error)
    }
    return this.#readResult(appended)
  }

  async appendAll<T extends E>(
    appends: readonly Append<T>[],
    options: AppendOptions = {},
  ): Promise<readonly Appended<T>[]> {
    options.signal?.throwIfAborted()
    if (!Array.isArray(appends)) return this.#store.appendAll<T>(appends, options) // which says what is wrong
    const given = appends as readonly Append<T>[]
    const sealing = given.map(async (append) => ({
      ...checkObject('appends', append),
      events: await this.#sealed(append.events, options),
    }))
    const sealed = await orAbort(Promise.all(sealing), options.signal)
    let results: readonly Appended<T>[]
    try {
      results = await this.#store.appendAll<T>(sealed, options)
    } catch (error) {
      throw await this.#readError(error)
    }
    return Promise.all(results.map(async (result) => this.#readResult(result)))
  }

  async recall<T extends E = E>(
    idempotencyKey: string,
    options?: { readonly tx?: unknown },
  ): Promise<readonly Appended<T>[] | undefined> {
    const results = await this.#store.recall<T>(idempotencyKey, options)
    return results && Promise.all(results.map(async (result) => this.#readResult(result)))
  }

  async *read<T extends E = E>(stream: string, options?: ReadOptions): AsyncGenerator<Recorded<T>, void, undefined> {
    const keys = new Map<string, Uint8Array>()
    const asked = new Set<string>()
    for await (const event of this.#store.read<T>(stream, options)) {
      const { subject } = noteOf(event)
      if (subject !== undefined && !asked.has(subject)) {
        asked.add(subject)
        for (const [of, key] of await this.#keysOf([event])) keys.set(of, key)
      }
      yield this.#read(event, keys)
    }
  }

  async readPage<T extends E = E>(options?: PageOptions): Promise<Page<T>> {
    const page = await this.#store.readPage<T>(options)
    return { ...page, events: await this.#readAll(page.events) }
  }

  readAll<T extends E = E>(options: ReadAllOptions = {}): AsyncGenerator<Recorded<T>, void, undefined> {
    return readAllPages<T>((page) => this.readPage(page), options)
  }

  wake(fn: () => void): Unsubscribe {
    return this.#store.wake(fn)
  }

  info(stream: string, options?: { readonly tx?: unknown }): Promise<StreamInfo | undefined> {
    return this.#store.info(stream, options)
  }

  truncate(stream: string, before: number): Promise<void> {
    return this.#store.truncate(stream, before)
  }

  archive(stream: string): Promise<void> {
    return this.#store.archive(stream)
  }

  tombstone(stream: string): Promise<void> {
    return this.#store.tombstone(stream)
  }

  close(): Promise<void> {
    return this.#store.close()
  }

  async [VALIDATE](events: readonly E[]): Promise<readonly E[]> {
    return Promise.all(events.map((event) => this.#valid(event)))
  }

  async #valid<T extends E>(event: T): Promise<T> {
    const definition = this.#definitionOf(event)
    return definition ? validEvent(event, definition) : event
  }

  /** `undefined` where there is nothing to validate. @throws InvalidPayloadError for a type that is not in the catalog. */
  #definitionOf(event: E): Definition | undefined {
    const type: unknown = (event as E | null | undefined)?.type
    if (typeof type !== 'string' || type === '') return undefined // the store says what is wrong
    const definition = this.#definitions.get(type)
    if (definition || this.#pass) return definition
    throw new InvalidPayloadError(`event ${JSON.stringify(type)} is not in the catalog`)
  }

  /** What the store is given for `events`; a promise only where there is something to wait for. */
  #sealed<T extends E>(events: readonly T[], { metadata }: AppendOptions): readonly T[] | Promise<readonly T[]> {
    if (!Array.isArray(events)) return events
    if (isNoted(metadata)) invalid('metadata', `no key ${NOTE}`, NOTE)
    let waits = false
    const sealed = (events as readonly T[]).map((event) => {
      // Once there is a promise nothing may be thrown beside it: it would be left alone.
      const one = waits ? (async () => this.#sealedOne(event))() : this.#sealedOne(event)
      waits ||= one instanceof Promise
      return one
    })
    return waits ? Promise.all(sealed.map(async (one) => one)) : (sealed as readonly T[])
  }

  #sealedOne<T extends E>(event: T): T | Promise<T> {
    const definition = this.#definitionOf(event)
    if (!definition) {
      checkOwnMetadata((event as T | null | undefined)?.metadata)
      return event
    }
    const data = validData(event, definition)
    if (data instanceof Promise) return data.then((later) => this.#sealedAs(event, later, definition))
    return this.#sealedAs(event, data, definition)
  }

  #sealedAs<T extends E>(given: T, data: unknown, definition: Definition): T | Promise<T> {
    const { type, id, tags, metadata } = given
    checkOwnMetadata(metadata)
    const event = { type, data, id, tags, metadata } as T // a spread would cost more than all the rest
    const { revision, personal } = definition
    if (personal) return this.#encrypted(event, definition, personal)
    return revision === 1 ? event : noted(event, { revision })
  }

  async #encrypted<T extends E>(event: T, definition: Definition, personal: Personal): Promise<T> {
    const { revision } = definition
    const subject = subjectOf(event.data, definition)
    const { id = randomId() } = event
    const fields = personal.fields.filter((field) => Object.hasOwn(event.data as object, field))
    const key = await (this.#keys as SubjectKeys).ensure(subject)
    const data = changed(event.data as object, fields, (value, field) =>
      seal(key, Buffer.from(jsonCodec.encode(value)), contextOf(id, field)).toString('base64'),
    )
    return noted({ ...event, id, data }, { ...(revision === 1 ? {} : { revision }), subject, fields })
  }

  /** A result as readers see it. */
  #readResult<T extends E>(result: Appended<T>): Appended<T> | Promise<Appended<T>> {
    const events = this.#readAll(result.events)
    return events instanceof Promise ? events.then((read) => ({ ...result, events: read })) : { ...result, events }
  }

  /** What an append failed with; events missed, as readers see them. */
  async #readError<T extends E>(error: unknown): Promise<unknown> {
    if (!isHoldfastError(error, 'VERSION_CONFLICT')) return error
    const { stream, expected, actual, missed, query } = error as VersionConflictError<T>
    return new VersionConflictError(stream, expected, actual, await this.#readAll(missed), query)
  }

  #readAll<T extends E>(events: readonly Recorded<T>[]): readonly Recorded<T>[] | Promise<readonly Recorded<T>[]> {
    const read = (keys: Keys) => events.map((event) => this.#read(event, keys))
    const keys = this.#keysOf(events)
    return keys instanceof Promise ? keys.then(read) : read(keys)
  }

  /** A promise only where there are keys to wait for. */
  #keysOf<T extends E>(events: readonly Recorded<T>[]): Keys | Promise<Keys> {
    let subjects: Set<string> | undefined
    for (const event of events) {
      const { subject } = noteOf(event)
      if (subject === undefined) continue
      if (!this.#keys) throw new CorruptDataError(`${placeOf(event)} has encrypted fields, and the catalog has no keys`)
      subjects ??= new Set()
      subjects.add(subject)
    }
    return subjects ? (this.#keys as SubjectKeys).get([...subjects]) : NO_KEYS
  }

  #read<T extends E>(event: Recorded<T>, keys: Keys): Recorded<T> {
    const { revision = 1, subject, fields = [] } = noteOf(event)
    const definition = this.#definitions.get(event.type)
    const isPlain = !isNoted(event.metadata)
    if (isPlain && (!definition || definition.revision === revision)) return event
    const { [NOTE]: _note, ...metadata } = event.metadata
    let read: Recorded<T> = isPlain ? event : { ...event, metadata }
    if (subject !== undefined) read = { ...read, data: unsealed(read, fields, keys.get(subject)) }
    return definition ? upcast(read, revision, definition) : read
  }
}

/** Data of today, whatever revision it was written by. */
function upcast<E extends Event>(event: Recorded<E>, from: number, { revision, up }: Definition): Recorded<E> {
  if (from > revision)
    throw new CorruptDataError(
      `${placeOf(event)} was written by revision ${from} of its type, and the catalog knows ${revision}: this code is too old`,
    )
  let { data }: { data?: unknown } = event
  for (let n = from; n < revision; n++) {
    const step = up.get(n)
    if (!step) throw new CorruptDataError(`${placeOf(event)} has revision ${n}, and the catalog has no up[${n}]`)
    try {
      data = step(data, event)
      if (data instanceof Promise) {
        data.catch(() => {}) // nobody waits for it
        throw new TypeError('an upcaster must not be async')
      }
    } catch (cause) {
      throw new CorruptDataError(
        `${placeOf(event)} can't be brought from revision ${n} to ${n + 1}: ${messageOf(cause)}`,
        {
          cause,
        },
      )
    }
  }
  return from === revision ? event : { ...event, data }
}

/** The event's data with the fields decrypted; `undefined` without the key. */
function unsealed<E extends Event>(
  event: Recorded<E>,
  fields: readonly string[],
  key: Uint8Array | undefined,
): unknown {
  const { data }: { data?: unknown } = event
  if (!isPlainObject(data))
    throw new CorruptDataError(`${placeOf(event)} has encrypted fields, and its data is no object`)
  return changed(data, fields, (value, field) => {
    if (!key) return undefined
    try {
      const bytes = Buffer.from(value as string, 'base64')
      return jsonCodec.decode(unseal(key, bytes, contextOf(event.id, field)).toString())
    } catch (cause) {
      throw new CorruptDataError(`${placeOf(event)}: ${JSON.stringify(field)} can't be decrypted`, { cause })
    }
  })
}

/** A copy of `data` with other values for `fields`. */
const changed = (data: object, fields: readonly string[], change: (value: unknown, field: string) => unknown): object =>
  Object.fromEntries(
    Object.entries(data).map(([field, value]) => [field, fields.includes(field) ? change(value, field) : value]),
  )

/** An encrypted field can't be put elsewhere. */
const contextOf = (id: string, field: string): string => JSON.stringify([id, field])

function checkOwnMetadata(metadata: Metadata | undefined): void {
  if (metadata !== undefined) checkMetadata('event metadata', metadata)
  if (isNoted(metadata)) invalid('event metadata', `no key ${NOTE}`, NOTE)
}
const noted = <E extends Event>(event: E, note: Note): E => ({
  ...event,
  metadata: { ...event.metadata, [NOTE]: note },
})
const isNoted = (metadata: Metadata | undefined): boolean =>
  typeof metadata === 'object' && metadata !== null && Object.hasOwn(metadata, NOTE)
const placeOf = ({ type, streamId, version }: Recorded): string =>
  `event ${JSON.stringify(type)} (version ${version} of stream ${JSON.stringify(streamId)})`

/** What the catalog noted when the event was appended. @throws CorruptDataError for what it can't have written. */
function noteOf(event: Recorded): Note {
  if (!isNoted(event.metadata)) return {}
  const note: unknown = event.metadata[NOTE]
  if (!isNote(note)) throw new CorruptDataError(`${placeOf(event)}: ${NOTE} in its metadata can't be read`)
  return note
}

function isNote(note: unknown): note is Note {
  if (!isPlainObject(note)) return false
  const { revision = 1, subject = '', fields = [] } = note
  if (!Number.isSafeInteger(revision) || (revision as number) < 1 || typeof subject !== 'string') return false
  return Array.isArray(fields) && fields.every((field) => typeof field === 'string')
}
