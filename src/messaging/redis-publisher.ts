import { invalid } from '../kernel/check.js'
import { StoreError } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import { textOf } from '../kernel/redis-names.js'
import { defineScript, type RedisArg, type RedisClient } from '../kernel/redis.js'
import { BacklogFullError, UnroutedError } from './errors.js'
import type { BusNames } from './redis-names.js'
import { messageFields } from './redis-rows.js'
import { publishLua } from './redis-publish.lua.js'
import type { StoredMessage } from './stored-message.js'

const script = defineScript(publishLua)

/** Messages, and characters of them, in one script call: longer ones would hold up the server's other clients. */
const MOST_MESSAGES = 256
const MOST_SIZE = 1_000_000
/** The same for one `publish`, which is never parted. */
const MOST_AT_ONCE = 10_000
const MOST_SIZE_AT_ONCE = 100_000_000

/** Who takes what, as the server had it last. */
export interface Route {
  readonly group: string
  readonly order: 'k' | 'n'
  /** `undefined` takes all. */
  readonly types: ReadonlySet<string> | undefined
  readonly keys: readonly string[]
  /** Its channel and its order, as the script wants them. */
  readonly about: readonly string[]
}

/** Who takes messages of one type. */
interface Takers {
  readonly routes: readonly Route[]
  readonly groups: ReadonlySet<string>
}

interface Waiting {
  readonly messages: readonly StoredMessage[]
  readonly resolve: (reached: Reached) => void
  readonly reject: (error: unknown) => void
}

/** Whom a publish reached. */
export interface Reached {
  readonly groups: ReadonlySet<string>
  /** Those that no group takes. */
  readonly nobody: readonly StoredMessage[]
}

/** What a publisher needs of the bus. */
export interface PublisherSettings {
  readonly maxBacklog: number
  readonly rejectUnrouted: boolean
  /** Makes those of the bus's own groups again that the server no longer knows, and those that went when it lost everything. */
  readonly restore: (known: ReadonlySet<string>, gone: readonly Route[]) => Promise<void>
}

/** Sends what is published: one script call at a time, so that calls keep their order, with all that has come meanwhile. */
export class RedisPublisher {
  readonly #keys: readonly string[]
  #queue: Waiting[] = []
  #sending: Promise<void> | undefined
  #run = 0
  #version = ''
  #routes: readonly Route[] = []
  /** By type, as the routes have it. */
  readonly #taken = new Map<string, Takers>()
  /** What went when the server lost everything, until all of it is there again. */
  #gone: readonly Route[] = []

  constructor(
    private readonly client: RedisClient,
    private readonly names: BusNames,
    private readonly settings: PublisherSettings,
  ) {
    this.#keys = [names.groups, names.log, names.refs, names.sender(randomId())]
  }

  /**
   * @throws InvalidOptionError for more than one script call can be asked for, BacklogFullError, UnroutedError: nothing was stored.
   * StoreError: all may or may not have been stored.
   */
  publish(messages: readonly StoredMessage[]): Promise<Reached> {
    if (messages.length > MOST_AT_ONCE)
      invalid('messages', `at most ${MOST_AT_ONCE} at once, for all or none are stored`, messages.length)
    const size = messages.reduce((sum, { text }) => sum + text.length, 0)
    if (size > MOST_SIZE_AT_ONCE) invalid('messages', `at most ${MOST_SIZE_AT_ONCE} characters at once`, size)
    return new Promise((resolve, reject) => {
      this.#queue.push({ messages, resolve, reject })
      this.#sending ??= this.#sendAll()
    })
  }

  /** Resolves when all that was published has been answered. */
  async idle(): Promise<void> {
    await this.#sending
  }

  async #sendAll(): Promise<void> {
    await new Promise((resolve) => process.nextTick(resolve)) // all calls of one tick go together
    while (this.#queue.length > 0) {
      const batch = this.#nextBatch()
      try {
        await this.#send(batch) // oxlint-disable-line no-await-in-loop -- one after the other keeps the order
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    this.#sending = undefined
  }

  #nextBatch(): readonly Waiting[] {
    let messages = 0
    let size = 0
    const end = this.#queue.findIndex((waiting, i) => {
      messages += waiting.messages.length
      for (const { text } of waiting.messages) size += text.length
      return i > 0 && (messages > MOST_MESSAGES || size > MOST_SIZE)
    })
    return this.#queue.splice(0, end < 0 ? this.#queue.length : end)
  }

  async #send(batch: readonly Waiting[]): Promise<void> {
    this.#run++
    for (;;) {
      const { keys, args, routes, routed } = this.#callOf(batch)
      const reply = (await script.run(this.client, keys, args)) as readonly [string, unknown] // oxlint-disable-line no-await-in-loop
      if (reply[0] === 'stale') {
        await this.#learn(reply[1] as readonly string[]) // oxlint-disable-line no-await-in-loop
        continue
      }
      const answers = reply[1] === '' ? batch.map(() => 0) : String(reply[1]).split(' ').map(Number)
      if (answers.length !== batch.length) throw new StoreError('Redis: the script gave another number of answers')
      for (const [i, { messages, resolve, reject }] of batch.entries()) {
        const full = routes[answers[i]! - 1]
        const targets = routed[i]!
        const nobody = messages.filter((_, n) => targets[n]!.routes.length === 0)
        if (full) reject(new BacklogFullError(full.group, this.settings.maxBacklog))
        else if (this.settings.rejectUnrouted && nobody[0]) reject(new UnroutedError(nobody[0].type))
        else resolve({ groups: reached(targets), nobody })
      }
      return
    }
  }

  #callOf(batch: readonly Waiting[]) {
    const routes: Route[] = []
    const numbers = new Map<Takers, string>()
    const numbersOf = (takers: Takers): string => {
      let text = numbers.get(takers)
      if (text === undefined) {
        for (const route of takers.routes) if (!routes.includes(route)) routes.push(route)
        text = takers.routes.map((route) => routes.indexOf(route) + 1).join(' ')
        numbers.set(takers, text)
      }
      return text
    }
    const calls: RedisArg[] = []
    const routed = batch.map(({ messages }) => {
      const targets = messages.map(({ type }) => this.#takers(type))
      const count = targets.reduce((sum, takers) => sum + Math.min(1, takers.routes.length), 0)
      // A call for nobody is sent all the same, empty: the routes may be out of date.
      const sent = this.settings.rejectUnrouted && count < messages.length ? 0 : count
      calls.push(sent)
      for (const [n, message] of sent > 0 ? messages.entries() : []) {
        if (targets[n]!.routes.length > 0) calls.push(...messageFields(message), numbersOf(targets[n]!))
      }
      return targets
    })
    const keys = [...this.#keys, ...routes.flatMap((route) => route.keys)]
    const about = routes.flatMap((route) => route.about)
    const args = [this.#run, this.#version, this.settings.maxBacklog, routes.length, ...about, ...calls]
    return { keys, args, routes, routed }
  }

  #takers(type: string): Takers {
    const known = this.#taken.get(type)
    if (known) return known
    const routes = this.#routes.filter(({ types }) => !types || types.has(type))
    const takers = { routes, groups: new Set(routes.map(({ group }) => group)) }
    if (this.#taken.size < 10_000) this.#taken.set(type, takers)
    return takers
  }

  async #learn(flat: readonly string[]): Promise<void> {
    let version = ''
    const routes: Route[] = []
    for (let i = 0; i < flat.length; i += 2) {
      const [name, value] = [flat[i]!, flat[i + 1]!]
      if (name === 'v') version = value
      else routes.push(this.#routeOf(name, value))
    }
    if (flat.length === 0) this.#gone = this.#routes
    const known = new Set(routes.map(({ group }) => group))
    // Only now are they known: if this fails, the next call finds them out of date as well, and perhaps some of the groups there.
    await this.settings.restore(
      known,
      this.#gone.filter(({ group }) => !known.has(group)),
    )
    this.#gone = []
    this.#taken.clear()
    this.#version = version
    this.#routes = routes
  }

  #routeOf(name: string, meta: string): Route {
    const group = textOf(name)
    const order = meta[0] as 'k' | 'n'
    const types = meta.length > 1 ? new Set(JSON.parse(meta.slice(1)) as string[]) : undefined
    return { group, order, types, keys: this.names.published(group, order), about: [this.names.channel(group), order] }
  }
}

const reached = (targets: readonly Takers[]): ReadonlySet<string> =>
  targets.length === 1 ? targets[0]!.groups : new Set(targets.flatMap(({ groups }) => [...groups]))
