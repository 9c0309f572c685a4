import { checkString, invalid } from '../kernel/check.js'
import { CorruptDataError } from '../kernel/errors.js'
import { checkDatabase, queryRows, toSqlText, type SqlDatabase } from '../kernel/postgres.js'
import { migrate, sqlIdentifier } from '../kernel/postgres-schema.js'
import { ShreddedError } from './errors.js'
import { steps } from './postgres.sql.js'
import { KEY_BYTES, newKey, seal, unseal } from './seal.js'
import type { SubjectKeys } from './subject-keys.js'

/** Where {@link PostgresSubjectKeys} are kept, and how. */
export interface PostgresSubjectKeysOptions {
  /** Schema of the tables. 1 to 63 bytes. @defaultValue 'holdfast' */
  readonly schema?: string | undefined
  /**
   * 32 bytes, from your secrets: under it the keys are encrypted, so that the table alone tells nothing. Keys that were stored without one
   * stay readable. @defaultValue keys are stored as they are
   */
  readonly masterKey?: Uint8Array | undefined
}

/**
 * Keys in PostgreSQL: `pg` Pool, `pg` Client or PGlite. A database of its own, whose backups are short-lived, is best: a backup from before
 * `shred` still has the key.
 */
export class PostgresSubjectKeys implements SubjectKeys {
  readonly #db: SqlDatabase
  readonly #schema: string
  /** The schema, quoted. */
  readonly #s: string
  readonly #master: Uint8Array | undefined

  /** @throws InvalidOptionError for what is no database, no schema name that PostgreSQL can take, or no key of 32 bytes. */
  constructor(db: SqlDatabase, { schema = 'holdfast', masterKey }: PostgresSubjectKeysOptions = {}) {
    this.#db = checkDatabase(db)
    this.#schema = schema
    this.#s = sqlIdentifier('schema', schema)
    if (masterKey !== undefined && !(masterKey instanceof Uint8Array && masterKey.length === KEY_BYTES))
      invalid('masterKey', `${KEY_BYTES} bytes`, masterKey)
    this.#master = masterKey && new Uint8Array(masterKey)
  }

  /** As the event store's: makes or updates the same tables. Needed only where there is no store. @throws StoreError. */
  async migrate(): Promise<void> {
    await migrate(this.#db, this.#schema, 'event-sourcing', steps(this.#s))
  }

  async ensure(subject: string): Promise<Uint8Array> {
    checkString('subject', subject)
    const found = (await this.#rows([subject]))[0] ?? (await this.#made(subject))
    if (!found.key) throw new ShreddedError(subject)
    return this.#unwrapped(subject, found.key)
  }

  async get(subjects: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>> {
    const found = new Map<string, Uint8Array>()
    for (const { subject, key } of subjects.length > 0 ? await this.#rows(subjects) : [])
      if (key) found.set(subject, this.#unwrapped(subject, key))
    return found
  }

  async shred(subject: string): Promise<void> {
    await queryRows(
      this.#db,
      `insert into ${this.#s}.es_subject_keys (subject, key) values (${this.#s}.es_key($1), null)
       on conflict (subject) do update set key = null`,
      [toSqlText(checkString('subject', subject))],
    )
  }

  async #rows(subjects: readonly string[]): Promise<readonly { subject: string; key: string | undefined }[]> {
    const rows = await queryRows(
      this.#db,
      `select w.o::text as o, encode(k.key, 'hex') as key from unnest($1::text[]) with ordinality as w (subject, o)
       join ${this.#s}.es_subject_keys k on k.subject = ${this.#s}.es_key(w.subject)`,
      [subjects.map(toSqlText)],
    )
    return rows.map((row) => ({
      subject: subjects[Number(row['o']) - 1] as string,
      key: (row['key'] as string | null) ?? undefined,
    }))
  }

  /** The key just made, or the one that somebody else made at the same time. */
  async #made(subject: string): Promise<{ key: string | undefined }> {
    const key = newKey()
    const wrapped = this.#master ? seal(this.#master, key, subject) : key
    await queryRows(
      this.#db,
      `insert into ${this.#s}.es_subject_keys (subject, key) values (${this.#s}.es_key($1), decode($2, 'hex')) on conflict do nothing`,
      [toSqlText(subject), Buffer.from(wrapped).toString('hex')],
    )
    return (await this.#rows([subject]))[0] ?? { key: undefined }
  }

  #unwrapped(subject: string, hex: string): Uint8Array {
    const bytes = Buffer.from(hex, 'hex')
    if (bytes.length === KEY_BYTES) return bytes
    try {
      if (!this.#master) throw new TypeError('there is no master key')
      return unseal(this.#master, bytes, subject)
    } catch (cause) {
      throw new CorruptDataError(`the key of subject ${JSON.stringify(subject)} can't be unwrapped`, { cause })
    }
  }
}
