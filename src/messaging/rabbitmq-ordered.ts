import type { Delivery } from './backlog.js'
import { Fifo } from './fifo.js'
import type { AmqpMessage } from './rabbitmq-client.js'
import type { Flow, RabbitMqGroup } from './rabbitmq-group.js'
import { Lane, type Copy, type Entry } from './rabbitmq-lane.js'
import { Partition } from './rabbitmq-partition.js'
import type { Tap } from './rabbitmq-tap.js'
import { partitionsOf } from './rabbitmq-topology.js'
import type { Past } from './rabbitmq-wire.js'
import type { Outcome } from './subscription.js'

/** How often the queues of a partition in which nothing happens are looked at. */
const LOOK_MS = 1_000

/** After so long what could not be moved to another queue is tried once more. */
const AGAIN_MS = 1_000

/**
 * Deliveries in order per key. The messages of a partition come to one process at a time (single active consumer); here they wait in lanes,
 * one per key. What failed is set aside, see {@link Partition}, and holds up its lane alone.
 */
export class OrderedFlow implements Flow {
  readonly #running = new Map<Delivery, Entry>()
  readonly #lanes = new Map<string, Lane>()
  /** Lanes whose first may be handed out. */
  readonly #ready = new Fifo<Lane>()
  /** By key, how many handlers still run whose channel was lost: their messages come again, but not beside them. */
  readonly #orphans = new Map<string, number>()
  #partitions: Partition[] = []
  #turn = 0

  constructor(private readonly group: RabbitMqGroup) {}

  async open(tap: Tap): Promise<void> {
    const count = partitionsOf(this.group.record)
    this.#partitions = Array.from({ length: count }, (_, i) => new Partition(this.group, tap, i, this))
    await Promise.all(this.#partitions.map((partition) => partition.open()))
    this.#look(tap)
  }

  async join(): Promise<void> {
    this.#pump()
  }

  async leave(): Promise<void> {
    if (this.group.subscriptions.length > 0) return
    // Nothing is given back one by one, for it could come again out of order: the end of the channel gives back all at once.
    for (const partition of this.#partitions) partition.stop()
  }

  reset(): void {
    for (const { lane } of this.#running.values())
      if (lane.key !== undefined && !lane.lost) this.#orphans.set(lane.key, (this.#orphans.get(lane.key) ?? 0) + 1)
    for (const partition of this.#partitions) partition.reset()
    this.#lanes.clear()
    while (this.#ready.shift());
    this.#partitions = []
  }

  /** A message has come, in its order. */
  accept(copy: Copy & { readonly message: AmqpMessage }, partition: Partition): void {
    const { delivery, past } = this.group.read(copy.message)
    if (past.death && copy.inMain) return this.group.disown(delivery, past.death, () => partition.reject(copy))
    const { key } = delivery.message
    const known = key === undefined ? undefined : this.#lanes.get(key)
    const lane = known ?? new Lane(key, partition, this.group.surroundings.clock.epochMs())
    if (!known && key !== undefined) this.#lanes.set(key, lane)
    const entry = lane.add(delivery, copy, past)
    if (lane.first === entry) this.#offer(lane)
    else if (lane.sleeping) partition.relieve()
  }

  settle(delivery: Delivery, outcome: Outcome): void {
    const entry = this.#take(delivery)
    if (entry && !entry.lane.lost) {
      if (outcome.kind === 'done') this.#finish(entry)
      else if (outcome.kind === 'retry') this.#sleep(entry, outcome.afterMs)
      else this.group.track(this.#bury(entry, outcome))
    }
    queueMicrotask(() => this.#pump())
  }

  giveBack(delivery: Delivery): void {
    const entry = this.#take(delivery)
    if (!entry || entry.lane.lost) return
    this.group.track(
      entry.lane.partition.setAside(entry, 0).then(() => {
        entry.lane.offered = false
        this.#offer(entry.lane)
      }),
    )
  }

  #take(delivery: Delivery): Entry | undefined {
    const entry = this.#running.get(delivery)
    this.#running.delete(delivery)
    const key = entry?.lane.key
    if (!entry?.lane.lost || key === undefined) return entry
    const left = (this.#orphans.get(key) ?? 1) - 1
    if (left > 0) this.#orphans.set(key, left)
    else {
      this.#orphans.delete(key)
      const lane = this.#lanes.get(key)
      if (lane) this.#offer(lane)
    }
    return entry
  }

  /** The first of the lane may go: at once, or when it is due. */
  #offer(lane: Lane): void {
    const { clock } = this.group.surroundings
    const { first } = lane
    if (!first || lane.lost || lane.offered || (lane.key !== undefined && this.#orphans.has(lane.key))) return
    lane.offered = true
    const waitMs = (first.dueAt ?? 0) - clock.epochMs()
    first.dueAt = undefined
    if (waitMs <= 0) return this.#go(lane)
    this.#wait(lane, waitMs)
  }

  #go(lane: Lane): void {
    this.#ready.push(lane)
    this.#pump()
  }

  #wait(lane: Lane, ms: number): void {
    const wake = (): void => {
      lane.wake()
      this.#go(lane)
    }
    lane.sleep(ms, this.group.surroundings.clock.setTimer(wake, ms, { keepAlive: true }))
    lane.partition.relieve()
  }

  #pump(): void {
    for (let at = this.#nextFree(); at !== undefined; at = this.#nextFree()) {
      const lane = this.#ready.shift()
      if (!lane) return
      const { first } = lane
      if (lane.lost || !first) continue
      const refusal = this.group.refusal(first.delivery, first.past)
      if (refusal) {
        this.group.track(this.#bury(first, refusal))
        continue
      }
      this.#running.set(first.delivery, first)
      this.#turn = at + 1
      void this.group.subscriptions[at]?.run(first.delivery)
    }
  }

  #nextFree(): number | undefined {
    const { subscriptions } = this.group
    for (let i = 0; i < subscriptions.length; i++) {
      const at = (this.#turn + i) % subscriptions.length
      if (subscriptions[at]?.free) return at
    }
    return undefined
  }

  /** The first of its lane is done with: the next may go. */
  #finish(entry: Entry): void {
    const { lane } = entry
    lane.partition.drop(entry.copy)
    lane.shift()
    lane.offered = false
    if (lane.first) this.#offer(lane)
    else if (lane.key !== undefined) this.#lanes.delete(lane.key)
  }

  /** Until it is due it is first in its lane, here; and aside, with what it has been through, in case this process ends. */
  #sleep(entry: Entry, ms: number): void {
    entry.delivery.previousMs = ms
    this.#wait(entry.lane, ms)
    this.group.track(entry.lane.partition.setAside(entry, ms))
  }

  async #bury(
    entry: Entry,
    { reason, error }: { reason: NonNullable<Past['death']>['reason']; error: unknown },
  ): Promise<void> {
    const buried = await this.group.bury(entry.delivery, reason, error)
    if (entry.lane.lost) return
    if (buried) return this.#finish(entry)
    this.#wait(entry.lane, AGAIN_MS)
  }

  /** What is aside in a partition that is nobody's for want of messages must be found too. */
  #look(tap: Tap): void {
    if (!tap.alive || this.group.subscriptions.length === 0) return
    const again = (): void => void this.group.surroundings.clock.setTimer(() => this.#look(tap), LOOK_MS)
    Promise.all(this.#partitions.map((partition) => partition.look())).then(again, again)
  }
}
