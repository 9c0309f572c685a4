import { isHoldfastError } from '../kernel/errors.js'
import {
  queryRows,
  savepoint,
  sqlFailed,
  transaction,
  type SqlDatabase,
  type SqlQueryable,
  type SqlRow,
} from '../kernel/postgres.js'
import type { Recorded } from './event.js'
import { Inline, InlineFailure } from './inline.js'
import { appendSql } from './postgres-append.sql.js'
import { AppendQueue, type WaitingAppend } from './postgres-queue.js'
import { appendedOf, appendParams, conditionsParam, keyParam, oneParams, type EventTexts } from './postgres-rows.js'
import type { AppendRequest } from './request.js'
import type { AppendOptions } from './store.js'

/** How many batches of appends may be on their way at the same time: one is written while the other is committed. */
const BATCHES = 2

/** Brings appends to the server: those of one moment together, each with what is to be done in its transaction. */
export class PostgresAppends {
  readonly inline = new Inline<SqlQueryable>()
  readonly #queue: AppendQueue

  constructor(
    private readonly db: SqlDatabase,
    /** The schema, quoted. */
    private readonly s: string,
    /** Called after each that has written something. */
    private readonly told: () => void,
    /** Whether statements are prepared once for each connection of a pool. */
    private readonly prepare: boolean,
  ) {
    this.#queue = new AppendQueue('totalCount' in db ? BATCHES : 1, (batch) => this.#sendMany(batch))
  }

  /** The answer to an append, together with others where that can be. @throws InlineFailure */
  async send(
    requests: readonly AppendRequest[],
    texts: readonly (readonly EventTexts[])[],
    options: AppendOptions,
  ): Promise<readonly SqlRow[]> {
    const { idempotencyKey: key, tx, signal } = options
    const [request, ...others] = requests
    if (!request || request.unless || others.length > 0 || tx !== undefined) return this.#send(requests, texts, options)
    return this.#queue.add({ request, texts: texts[0] ?? [], key, signal })
  }

  /** One step, all or nothing. */
  async #send(
    requests: readonly AppendRequest[],
    texts: readonly (readonly EventTexts[])[],
    { idempotencyKey: key, tx }: AppendOptions,
  ): Promise<readonly SqlRow[]> {
    const conditions = conditionsParam(requests)
    const params = [keyParam(key), ...appendParams(requests, texts)]
    const name = conditions === undefined ? 'es_append' : 'es_append_if'
    return this.#within(tx as SqlQueryable | undefined, requests, (on) =>
      this.#ask(on, name, conditions === undefined ? params : [conditions, ...params]),
    )
  }

  /** Several appends in one step, each for itself. */
  async #sendMany(batch: readonly WaitingAppend[]): Promise<void> {
    const [first, ...others] = batch
    if (!first) return
    try {
      if (others.length === 0) first.resolve(await this.#sendOne(first))
      else for (const [i, rows] of (await this.#sendBatch(batch)).entries()) batch[i]?.resolve(rows)
    } catch (error) {
      if (others.length === 0 || !wasRefused(error)) for (const { reject } of batch) reject(error)
      // Something in it is to blame, and only that is to fail: one after the other.
      // oxlint-disable-next-line no-await-in-loop -- as they would have gone together
      else for (const each of batch) await this.#sendMany([each])
    }
  }

  async #sendOne({ request, texts, key }: WaitingAppend): Promise<readonly SqlRow[]> {
    const params = oneParams(request, texts)
    if (!params) return this.#send([request], [texts], { idempotencyKey: key })
    return this.#within(undefined, [request], (on) => this.#ask(on, 'es_append_one', [keyParam(key), ...params]))
  }

  #ask(on: SqlQueryable, name: Parameters<typeof appendSql>[1], params: unknown[]): Promise<readonly SqlRow[]> {
    return queryRows(on, appendSql(this.s, name), params, this.prepare && on === this.db)
  }

  /** The answers to each append of a batch. */
  async #sendBatch(batch: readonly WaitingAppend[]): Promise<readonly (readonly SqlRow[])[]> {
    const requests = batch.map(({ request }) => request)
    const keys = batch.map(({ key }) => keyParam(key))
    const texts = batch.map((each) => each.texts)
    const params = [keys, ...appendParams(requests, texts)]
    const rows = await this.#within(undefined, requests, (on) => this.#ask(on, 'es_append_many', params))
    return shareOut(rows, requests)
  }

  /** An append of `requests`, and what is to be done in its transaction and after it. */
  async #within(
    tx: SqlQueryable | undefined,
    requests: readonly AppendRequest[],
    append: (on: SqlQueryable) => Promise<readonly SqlRow[]>,
  ): Promise<readonly SqlRow[]> {
    const rows = await (this.inline.isEmpty ? append(tx ?? this.db) : this.#projected(tx, requests, append))
    if (rows.some(isOk)) this.told()
    return rows
  }

  async #projected(
    tx: SqlQueryable | undefined,
    requests: readonly AppendRequest[],
    append: (on: SqlQueryable) => Promise<readonly SqlRow[]>,
  ): Promise<readonly SqlRow[]> {
    const work = async (on: SqlQueryable): Promise<readonly SqlRow[]> => {
      const rows = await append(on)
      await this.inline.run(on, writtenOf(requests, rows))
      return rows
    }
    await this.inline.ready()
    try {
      return await (tx ? savepoint(tx, work) : transaction(this.db, work))
    } catch (error) {
      throw isHoldfastError(error) || error instanceof InlineFailure ? error : sqlFailed(error)
    }
  }
}

const isOk = (row: SqlRow): boolean => row['status'] === 'ok'

/** The rows of each append in a batch: one that says what stood in its way, or one per event. */
function shareOut(rows: readonly SqlRow[], requests: readonly AppendRequest[]): readonly (readonly SqlRow[])[] {
  const refusals = new Map<number, SqlRow>()
  for (const row of rows) if (!isOk(row)) refusals.set(Number(row['of_stream']), { ...row, of_stream: 1 })
  const written = rows.filter(isOk)
  let next = 0
  return requests.map(({ events }, i) => {
    const refusal = refusals.get(i + 1)
    return refusal ? [refusal] : written.slice(next, (next += events.length))
  })
}

/** The events that were written, in order of position. */
function writtenOf(requests: readonly AppendRequest[], rows: readonly SqlRow[]): readonly Recorded[] {
  const parts = shareOut(rows, requests)
  const made = requests.filter((_, i) => parts[i]?.some(isOk))
  return appendedOf(made, rows.filter(isOk)).flatMap(({ events }) => events)
}

/** Whether the server refused a statement, which then has done nothing; not so when the connection broke, or the server went down. */
function wasRefused(error: unknown): boolean {
  if (error instanceof InlineFailure) return true
  const code = isHoldfastError(error) ? (error.cause as { code?: unknown } | undefined)?.code : undefined
  return typeof code === 'string' && /^(?!08|57P|EPIPE)[0-9A-Z]{5}$/.test(code) // EPIPE is the socket's and looks like the server's
}
