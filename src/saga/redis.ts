import { checkNumber, checkObject, checkPositive, checkString } from '../kernel/check.js'
import type { Unsubscribe } from '../kernel/emitter.js'
import { randomId } from '../kernel/random.js'
import { checkRedisClient, defineScript, type RedisArg, type RedisClient, type RedisScript } from '../kernel/redis.js'
import { hashTagged, nameOf } from '../kernel/redis-names.js'
import { listen, type Listening, type RedisSubscriber } from '../kernel/redis-subscriber.js'
import { Grouped } from './grouped.js'
import { dedupeField, idOf, keyOf, messageText, sagaOf, summaryOf } from './redis-rows.js'
import { claimLua, commitLua, createLua, deliverLua, listLua, moveLua, readLua, renewLua } from './redis.lua.js'
import type {
  ClaimRequest,
  Claims,
  Created,
  DefinitionKey,
  Delivered,
  Fenced,
  Lease,
  Moved,
  NewMessage,
  NewSaga,
  Renewed,
  SagaMove,
  SagaQuery,
  SagaStore,
  SagaSummary,
  SagaWake,
  StoredSaga,
  Transition,
} from './store.js'
import { allWritten, batches, fresh, readClaimed } from './stored.js'
import { Wakes } from './wakes.js'

export type { IoRedisSubscriber, NodeRedisSubscriber, RedisSubscriber } from '../kernel/redis-subscriber.js'
export type { RedisClient }

/** Where a {@link RedisSagaStore} keeps its sagas, for how long, and how it hears of changes. */
export interface RedisSagaStoreOptions {
  /**
   * Stands before every key: stores with different ones share nothing. On a Cluster all sagas of a prefix are in one slot: that of the hash
   * tag in here, or of the whole. @defaultValue `'holdfast:{saga}:'`
   */
  readonly prefix?: string | undefined
  /** How long completed and compensated sagas are kept, in milliseconds, ≥ 0; then their ids are free again. @defaultValue 604_800_000, a week */
  readonly retainMs?: number | undefined
  /**
   * A client that does nothing but listen, such as `redis.duplicate({ autoResubscribe: false })`: with it, orchestrators hear at once
   * of what others did. Stays the caller's. @defaultValue none: orchestrators ask every `pollMs` of theirs
   */
  readonly subscriber?: RedisSubscriber | undefined
  /** How often orchestrators look by themselves, for what a subscriber has missed, in milliseconds. > 0. @defaultValue 1_000 */
  readonly pollMs?: number | undefined
}

const scripts = {
  create: defineScript(createLua),
  claim: defineScript(claimLua),
  renew: defineScript(renewLua),
  commit: defineScript(commitLua),
  move: defineScript(moveLua),
  deliver: defineScript(deliverLua),
  read: defineScript(readLua),
  list: defineScript(listLua),
}

/** In one script call: longer ones would hold up the server's other clients. */
const MOST_CLAIMED = 256
const MOST_RENEWED = 500
/** Of what is written: sagas, and characters. */
const MOST = { count: 128, size: 2_000_000 }
const MOST_LISTED = 1_000
/** Redis takes no later time; who wants sagas kept for longer keeps them for good. */
const LONGEST_MS = 1e14

/**
 * Sagas in Redis ≥ 7, one server or Cluster. Each call is one script, hence one atomic step (a large batch, and a list, are several, each on
 * its own; sagas that are created at one moment travel together); times are the server's. A call that the client sends again because the
 * connection broke has its effect once. There is no `.transaction`.
 *
 * A saga belongs to the store object that took it: another one can't write under its epoch. So of two owners under one epoch, which a fail-over
 * of Redis can make because it forgets what had not been copied, one only is recorded.
 *
 * What survives a crash is what Redis is told to keep: with `appendonly yes` and `appendfsync always` all that was answered; with `everysec` all but
 * the last second or so. Steps whose record was lost run again, under the same key. Needs `maxmemory-policy noeviction`.
 */
export class RedisSagaStore implements SagaStore {
  /** There with a `subscriber` only. */
  readonly onWake?: (listener: (wake: SagaWake) => void) => Unsubscribe
  readonly #client: RedisClient
  readonly #prefix: string
  /** `ids`, `parked`, `ended`. */
  readonly #keys: readonly string[]
  readonly #keptMs: number | ''
  readonly #wakes: Wakes
  readonly #creates = new Grouped((sagas: readonly NewSaga[]) => this.#createAll(sagas))
  /** After a fail-over the same epoch may be given out twice: what is written must come from the one that was given it last. */
  readonly #id = randomId().slice(0, 18)
  #calls = 0
  #listening: Listening | undefined

  /**
   * @param client stays the caller's, who closes it
   * @throws InvalidOptionError when an argument is of the wrong kind. Nothing is sent.
   */
  constructor(client: RedisClient, options: RedisSagaStoreOptions = {}) {
    const { prefix = 'holdfast:{saga}:', retainMs = 604_800_000, subscriber, pollMs = 1_000 } = options
    this.#client = checkRedisClient(client, 'prefix')
    this.#prefix = hashTagged(checkString('prefix', prefix, 0))
    this.#keys = ['ids', 'parked', 'ended'].map((name) => this.#prefix + name)
    this.#keptMs = checkNumber('retainMs', retainMs, 0) < LONGEST_MS ? Math.ceil(retainMs) : ''
    const end = (): void => {
      void this.#listening?.end().catch(() => {}) // there may be no connection
      this.#listening = undefined
    }
    this.#wakes = new Wakes(checkPositive('pollMs', pollMs), () => this.#listen(subscriber), end)
    if (subscriber !== undefined) {
      checkObject('subscriber', subscriber)
      this.onWake = (listener) => this.#wakes.listen(listener)
    }
  }

  async create(newSaga: NewSaga): Promise<Created> {
    const { id, leaseMs, ...saga } = newSaga
    const { created, now, fields } = await this.#creates.add(newSaga)
    if (created) this.#wakes.tell({ id, dueInMs: leaseMs ?? 0 })
    return { created, now, saga: sagaOf(id, fields) ?? { id, ...saga, ...fresh(now, leaseMs === null ? 0 : 1) } }
  }

  async claim({ known, limit, leaseMs }: ClaimRequest): Promise<Claims> {
    const keys = [`${this.#prefix}c:${this.#call()}`, ...known.flatMap((d) => [this.#due(d), this.#kind(d)])]
    const args = [this.#id, Math.min(limit, MOST_CLAIMED), leaseMs, ...known.map(({ hash }) => hash)]
    const reply = await this.#run(scripts.claim, keys, args)
    type Reply = [string, string, [number | string, string, string[]][], (number | string)[]]
    const [nowText, nextAt, sagas, drifted] = reply as Reply
    const now = Number(nowText)
    return {
      ...readClaimed(sagas, ([expired, key, fields]) => ({
        saga: sagaOf(idOf(key), fields)!,
        expired: Number(expired) === 1,
      })),
      drifted: drifted.flatMap((at, i) => {
        if (i % 2 === 1) return []
        const { name, version } = known[Number(at)]!
        return [{ id: idOf(String(drifted[i + 1])), name, version }]
      }),
      now,
      nextDueMs: nextAt === '' ? Infinity : Math.max(0, Number(nextAt) - now),
    }
  }

  async renew(leases: readonly Lease[], leaseMs: number): Promise<readonly Renewed[]> {
    const answers: Renewed[] = []
    for (let from = 0; from < leases.length; from += MOST_RENEWED) {
      const some = leases.slice(from, from + MOST_RENEWED)
      const keys = some.map(({ id }) => this.#saga(id))
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const reply = await this.#run(scripts.renew, keys, [this.#id, leaseMs, ...some.map(({ epoch }) => epoch)])
      for (const messages of reply as (number | string)[])
        answers.push(Number(messages) < 0 ? 'fenced' : { lastMessage: Number(messages) })
    }
    return answers
  }

  async commit(transitions: readonly Transition[]): Promise<readonly Fenced[]> {
    const answers: Fenced[] = []
    for (const batch of batches(allWritten(transitions), ({ record }) => record.length, MOST)) {
      const args = batch.flatMap(({ transition, record }) => transitionArgs(transition, record))
      const keys = batch.map(({ transition }) => this.#saga(transition.id))
      // oxlint-disable-next-line no-await-in-loop -- one after the other: what is sent again is written once
      const reply = (await this.#run(scripts.commit, keys, [this.#id, this.#keptMs, ...args])) as string[]
      for (const [i, { transition }] of batch.entries()) {
        const [answer, dueIn] = reply[i]!.split(' ')
        answers.push(answer === 'ok' ? 'ok' : 'fenced')
        if (dueIn !== undefined) this.#wakes.tell({ id: transition.id, dueInMs: msOf(dueIn) })
      }
    }
    return answers
  }

  async move({ id, createdAt, epoch, position, to, entries, letGo }: SagaMove): Promise<Moved> {
    const keys = [this.#saga(id), this.#due(to), this.#kind(to)]
    const args = [createdAt, epoch, position, to.version, to.hash, JSON.stringify(entries), letGo ? 1 : 0]
    const moved = (await this.#run(scripts.move, keys, [this.#id, ...args])) as Moved
    if (moved === 'ok') this.#wakes.tell({ id, dueInMs: 0 })
    return moved
  }

  async deliver(message: NewMessage): Promise<Delivered> {
    const { sagaId, kind, dedupeId } = message
    const dedupe = dedupeId === undefined ? '' : dedupeField(dedupeId)
    const args = [this.#id, this.#call(), messageText(message), kind === 'redrive' ? 1 : 0, dedupe]
    const answer = (await this.#run(scripts.deliver, [this.#saga(sagaId)], args)) as Delivered
    if (answer === 'delivered') this.#wakes.tell({ id: sagaId, dueInMs: 0 })
    return answer
  }

  async read(id: string): Promise<StoredSaga | undefined> {
    return sagaOf(id, (await this.#run(scripts.read, [this.#saga(id)], [])) as string[])
  }

  async list({ status, name, stuckForMs, after, limit }: SagaQuery): Promise<readonly SagaSummary[]> {
    const found: SagaSummary[] = []
    const where = [status ?? '', name === undefined ? '' : nameOf(name), stuckForMs ?? '']
    let from = after === undefined ? '' : keyOf(after)
    do {
      const args = [status === 'parked' ? 'parked' : 'ids', from, ...where, limit - found.length, MOST_LISTED]
      // oxlint-disable-next-line no-await-in-loop -- bit by bit, so that the server's other clients have their turn
      const [next, ...lines] = (await this.#run(scripts.list, [], args)) as [string, ...string[][]]
      found.push(...lines.map(summaryOf))
      from = next
    } while (from !== '' && found.length < limit)
    return found
  }

  /** Also in several calls: `fields` are those of what was found. They are read one by one: what can't be must not hold up the others. */
  async #createAll(sagas: readonly NewSaga[]): Promise<{ created: boolean; now: number; fields: readonly string[] }[]> {
    const answers = []
    for (const batch of batches(sagas, ({ input }) => input.length, MOST)) {
      const keys = batch.flatMap((saga) => [this.#saga(saga.id), this.#due(saga), this.#kind(saga)])
      const args = batch.flatMap(({ name, version, hash, input, deadlineMs, leaseMs }) => [
        ...[this.#call(), nameOf(name), version, hash, input, deadlineMs ?? '', leaseMs ?? ''],
      ])
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const reply = await this.#run(scripts.create, keys, [this.#id, ...args])
      const [now, ...found] = reply as [string, ...[number | string, string[]][]]
      for (const [created, fields] of found) answers.push({ created: Number(created) === 1, now: Number(now), fields })
    }
    return answers
  }

  #run(script: RedisScript, keys: readonly string[], args: readonly RedisArg[]): Promise<unknown> {
    return script.run(this.#client, [...this.#keys, ...keys], [this.#prefix, ...args])
  }

  /** What tells a call from its repeat. */
  #call(): string {
    return `${this.#id}:${this.#calls++}`
  }

  #saga(id: string): string {
    return `${this.#prefix}s:${keyOf(id)}`
  }

  #due({ name, version, hash }: DefinitionKey): string {
    return `${this.#prefix}d${version} ${hash} ${nameOf(name)}`
  }

  #kind({ name, version }: DefinitionKey): string {
    return `${this.#prefix}k${version} ${nameOf(name)}`
  }

  #listen(subscriber: RedisSubscriber | undefined): void {
    if (!subscriber || this.#listening) return
    const listening = listen(subscriber, `${this.#prefix}wake`, (message) => this.#hear(message))
    this.#listening = listening
    listening.begun.then(
      () => this.#wakes.tell({ id: undefined, dueInMs: 0 }), // what was said before
      () => {
        if (this.#listening === listening) this.#listening = undefined // tried again when it is time to look anyway
      },
    )
  }

  #hear(message: string): void {
    let told: readonly string[]
    try {
      told = JSON.parse(message) as typeof told
    } catch {
      return // not ours
    }
    if (told[0] === this.#id) return // heard with the answer
    for (let i = 1; i < told.length; i += 2) this.#wakes.tell({ id: idOf(told[i + 1]!), dueInMs: msOf(told[i]!) })
  }
}

const msOf = (text: string): number => (text === '' || text === 'never' ? Infinity : Number(text))

function transitionArgs({ epoch, position, status, consumed, seen, next }: Transition, record: string): RedisArg[] {
  const dueAt = 'leaseMs' in next ? null : next.dueAt
  return [
    ...[epoch, position, record, status, seen, 'leaseMs' in next ? next.leaseMs : ''],
    ...[dueAt === null || dueAt === Infinity ? '' : dueAt, consumed.length],
    ...consumed.map((number) => `i:${number}`),
  ]
}
