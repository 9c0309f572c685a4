import { invalid, show } from '../kernel/check.js'
import { StoreError } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import { nameOf } from '../kernel/redis-names.js'
import { defineScript, type RedisArg, type RedisClient } from '../kernel/redis.js'
import type { GroupStats } from './memory-events.js'
import type { BusNames } from './redis-names.js'
import type { DeliveryRow } from './redis-rows.js'
import { exhumeLua, forgetLua, joinLua, lettersLua, statsLua, workLua } from './redis.lua.js'

const join = defineScript(joinLua)
const work = defineScript(workLua)
const forget = defineScript(forgetLua)
const letters = defineScript(lettersLua)
const exhume = defineScript(exhumeLua)
const stats = defineScript(statsLua)

/** One call of the working script. Sent again as it stands until it is answered: the server makes it once. */
export interface WorkCall {
  readonly number: number
  readonly consumer: string
  readonly leaseMs: number
  readonly want: number
  readonly leave: boolean
  /** Seven for each delivery that has ended. */
  readonly ended: readonly RedisArg[]
}

/** What it answers. `gone`: there is no such group. `lost`: the consumer's deliveries are others' now. */
export type WorkAnswer =
  | { readonly kind: 'gone' | 'lost' | 'left' }
  | { readonly kind: 'ok'; readonly nextDueMs: number; readonly rows: readonly DeliveryRow[] }

/** One group in Redis, as its scripts know it. */
export class RedisLink {
  readonly #keys: readonly string[]
  readonly #about: readonly [string, string]
  readonly channel: string

  constructor(
    private readonly client: RedisClient,
    names: BusNames,
    private readonly group: string,
  ) {
    this.#keys = names.ofGroup(group)
    this.channel = names.channel(group)
    this.#about = [nameOf(group), this.channel]
  }

  /**
   * Makes the group if there is none, and lets a consumer in.
   * @throws InvalidOptionError when it is not the group that `meta` says. StoreError: the consumer may be in, for one lease.
   */
  async join(meta: string, consumer: string, leaseMs: number): Promise<void> {
    for (;;) {
      const reply = await join.run(this.client, this.#keys, [...this.#about, meta, consumer, leaseMs, randomId()]) // oxlint-disable-line no-await-in-loop
      const [kind, order] = reply as [string, string?]
      if (kind === 'ok') return
      if (kind === 'order')
        invalid('order', `${show(order)}, as group ${show(this.group)} has it`, order === 'key' ? 'none' : 'key')
      if (kind === 'types') invalid('types', `those of the open subscriptions of group ${show(this.group)}`, 'others')
      await this.forget() // oxlint-disable-line no-await-in-loop -- what a deletion that was cut short has left
    }
  }

  async work({ number, consumer, leaseMs, want, leave, ended }: WorkCall): Promise<WorkAnswer> {
    const args = [...this.#about, consumer, number, leaseMs, want, leave ? 1 : 0, ...ended]
    const [kind, nextDueMs, rows] = (await work.run(this.client, this.#keys, args)) as [string, number, DeliveryRow[]]
    if (kind === 'ok') return { kind, nextDueMs, rows }
    if (kind === 'gone' || kind === 'lost' || kind === 'left') return { kind }
    throw new StoreError(`Redis: the script answered ${show(kind)}`)
  }

  /** @returns whether it could: not while a consumer is there */
  async forget(): Promise<boolean> {
    for (;;) {
      const reply = await forget.run(this.client, this.#keys, [...this.#about, randomId()]) // oxlint-disable-line no-await-in-loop
      if (reply !== 'more') return reply === 'done'
    }
  }

  async stats(): Promise<GroupStats> {
    const counts = (await stats.run(this.client, this.#keys, this.#about)) as (number | string)[]
    const [waiting = 0, running = 0, retrying = 0, dead = 0] = counts.map(Number)
    return { group: this.group, waiting, running, retrying, dead }
  }

  async letters(limit: number): Promise<readonly (readonly [string, string, readonly string[]])[]> {
    return (await letters.run(this.client, this.#keys, [...this.#about, limit])) as [string, string, string[]][]
  }

  /** @returns whether there were any */
  async exhume(id: string, what: 'requeue' | 'drop'): Promise<boolean> {
    return Number(await exhume.run(this.client, this.#keys, [...this.#about, nameOf(id), what])) === 1
  }
}
