import { invalid, show } from '../kernel/check.js'
import { InvalidOptionError, StoreError } from '../kernel/errors.js'
import type { AmqpChannel, AmqpMessage } from './rabbitmq-client.js'
import { codeOf, mayPass, NOT_FOUND } from './rabbitmq-answers.js'
import type { Lines, Link } from './rabbitmq-link.js'
import type { Session } from './rabbitmq-session.js'
import { allDelays, groupNames, routeOf, SLOTS, type GroupNames } from './rabbitmq-wire.js'

/** What a group is, as its record on the broker says: the same for all processes, and but for `types` for good. */
export interface GroupRecord {
  readonly group: string
  readonly order: 'key' | 'none'
  /** Sorted; `null` for all. */
  readonly types: readonly string[] | null
  readonly partitions: number
  readonly maxBacklog: number
  readonly deliveryLimit: number
  /** The same everywhere: what one process had must fit into the next, or it comes in another order. */
  readonly prefetch: number
}

/** Quorum queues, RabbitMQ 4 too, give back to the front only what has a limit of deliveries: where none is wanted, one that is never reached. */
const NO_LIMIT = 1_000_000_000

const quorum = (more: object = {}): object => ({
  durable: true,
  arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': NO_LIMIT, ...more },
})

/** What all groups share. */
export const messagesExchange = (prefix: string): string => `${prefix}messages`

/** Declares what publishers need. */
export const declareExchange = (channel: AmqpChannel, prefix: string): Promise<unknown> =>
  channel.assertExchange(messagesExchange(prefix), 'direct', { durable: true })

/** How many main queues a group has. */
export const partitionsOf = ({ order, partitions }: GroupRecord): number => (order === 'key' ? partitions : 1)

/** Declares all that a group has. Harmless when it is there. */
export async function declareGroup(channel: AmqpChannel, prefix: string, record: GroupRecord): Promise<void> {
  const { group, order, types, maxBacklog, deliveryLimit } = record
  const names = groupNames(prefix, group)
  const partitions = partitionsOf(record)
  const main = quorum({
    'x-delivery-limit': deliveryLimit,
    'x-max-length': Math.ceil(maxBacklog / partitions),
    'x-overflow': 'reject-publish', // the oldest would be dropped otherwise
    'x-dead-letter-exchange': '', // the default one: by a queue's name
    'x-dead-letter-routing-key': names.dead,
    'x-dead-letter-strategy': 'at-least-once',
    ...(order === 'key' ? { 'x-single-active-consumer': true } : {}),
  })
  const steps = [channel.assertQueue(names.dead, quorum())]
  for (let i = 0; i < partitions; i++) {
    steps.push(channel.assertQueue(names.queue(i), main))
    if (order === 'key') steps.push(channel.assertQueue(names.aside(i), quorum()))
  }
  await Promise.all(steps)
  // Last: from now on messages come, and everything they need is there.
  const exchange = messagesExchange(prefix)
  const bound = routesOf(types).map(([slot, route]) => channel.bindQueue(queueOf(record, names, slot), exchange, route))
  await Promise.all(bound)
}

/** What a group that takes these types is bound by, and the slot of each. */
const routesOf = (types: readonly string[] | null): (readonly [slot: number, route: string])[] =>
  Array.from({ length: SLOTS }, (_, slot) =>
    (types ?? [undefined]).map((type) => [slot, routeOf(type, slot)] as const),
  ).flat()

/** The main queue of a slot. */
export const queueOf = (record: GroupRecord, names: GroupNames, slot: number): string =>
  names.queue(slot % partitionsOf(record))

/**
 * Declares the queue in which a message waits `ms` before it is back in the group's only queue. It stays: a quorum queue with `x-expires` is
 * removed that long after it was made, with all that waits in it, however often it is declared again or put into.
 */
export const declareDelay = (channel: AmqpChannel, names: GroupNames, ms: number): Promise<unknown> =>
  channel.assertQueue(
    names.delay(ms),
    quorum({
      'x-message-ttl': ms,
      'x-overflow': 'reject-publish',
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': names.queue(0),
      'x-dead-letter-strategy': 'at-least-once', // also while the group's queue is full
    }),
  )

/** A record as it is written. `begun`: before all that the group has was declared. */
type Begun = GroupRecord & { readonly begun?: true }

/** What stands in the record's queue. */
interface Written {
  readonly record: Begun
  readonly message: AmqpMessage
}

/**
 * Makes the group as `wanted`, or joins it as it is; new types replace the old ones when nobody is subscribed.
 * @returns what it is now. @throws InvalidOptionError when it has another order, or open subscriptions that take other types.
 */
export function enterGroup({ link, sender }: Lines, prefix: string, wanted: GroupRecord): Promise<GroupRecord> {
  const names = groupNames(prefix, wanted.group)
  return withGroup(link, names, async (session, channel) => {
    const found = await takeRecords(channel, names)
    const last = lastOf(found) ?? wanted
    if (last.order !== wanted.order)
      invalid('order', `${show(last.order)}, as group ${show(wanted.group)} has it`, wanted.order)
    const same = found.every(({ record: { types } }) => JSON.stringify(types) === JSON.stringify(wanted.types))
    if (!same && (await isConsumed(session, names, link)))
      throw new InvalidOptionError(`types: the open subscriptions of group ${show(wanted.group)} take others`)
    const record = { ...last, types: wanted.types }
    const isWhole = found.length > 0 && same && found.every(({ record: { begun } }) => !begun)
    await writeGroup(sender, channel, { prefix, record, found, isWhole })
    return record
  })
}

/**
 * Makes again what is gone of a group that is in use: a queue or an exchange that was deleted, or all, for the broker has lost its data.
 * @throws StoreError also when somebody has made the group anew, with other settings.
 */
export async function restoreGroup({ link, sender }: Lines, prefix: string, record: GroupRecord): Promise<void> {
  const names = groupNames(prefix, record.group)
  const mains = Array.from({ length: partitionsOf(record) }, (_, i) => names.queue(i))
  const look = async (channel: AmqpChannel): Promise<boolean> => {
    const { messageCount } = await channel.checkQueue(names.record)
    if (messageCount === 0) return false
    await Promise.all(mains.map((queue) => channel.checkQueue(queue)))
    await declareGroup(channel, prefix, record) // bindings can't be asked for
    await channel.checkQueue(names.record) // somebody may be deleting the group, without our lock, and the record goes last
    return true
  }
  if (await orMissing(link.use(look), false)) return
  await withGroup(link, names, async (_session, channel) => {
    const found = await takeRecords(channel, names)
    const last = lastOf(found) ?? record
    if (JSON.stringify({ ...last, types: null }) !== JSON.stringify({ ...record, types: null }))
      throw new StoreError(`RabbitMQ: group ${show(record.group)} was made anew with other settings: subscribe again`)
    await writeGroup(sender, channel, { prefix, record, found, isWhole: false })
  })
}

/** Removes all that a group has. @throws InvalidOptionError while somebody consumes. */
export function removeGroup(link: Link, prefix: string, group: string): Promise<void> {
  const names = groupNames(prefix, group)
  return withGroup(link, names, async (session, channel) => {
    if (await isConsumed(session, names, link)) invalid('group', 'one without open subscriptions', group)
    const partitions = Array.from({ length: SLOTS }, (_, i) => [names.queue(i), names.aside(i)])
    const delays = Array.from(allDelays(), names.delay)
    const queues = [...delays, ...partitions.flat(), names.dead, names.record] // the record last: it says that there may be more
    await Promise.all(queues.map((queue) => channel.deleteQueue(queue)))
  })
}

/** Runs `work` while nobody else changes the group: again, as long as there is time, when the broker fails at it in a way that may pass. */
async function withGroup<T>(
  link: Link,
  names: GroupNames,
  work: (session: Session, channel: AmqpChannel) => Promise<T>,
): Promise<T> {
  const { clock, timeoutMs } = link.options
  const late = clock.now() + timeoutMs
  for (let pauseMs = 50; ; pauseMs = pauseMs * 2) {
    try {
      return await link.exclusively(names.lock, (session) => session.use((channel) => work(session, channel)))
    } catch (error) {
      if (link.closed || !mayPass(error) || clock.now() + pauseMs > late) throw error
      await link.pause(pauseMs)
    }
  }
}

/** All that stands in the record's queue, the newest last: more than one after a crash. They come back with the channel's end. */
async function takeRecords(channel: AmqpChannel, names: GroupNames): Promise<readonly Written[]> {
  await channel.assertQueue(names.record, quorum())
  const found: Written[] = []
  for (let message = await channel.get(names.record); message; message = await channel.get(names.record))
    found.push({ record: JSON.parse(message.content.toString()) as Begun, message })
  return found
}

/** What the group is by the newest of its records, be it made whole or only begun. */
function lastOf(found: readonly Written[]): GroupRecord | undefined {
  const newest = found.at(-1)
  if (!newest) return undefined
  const { begun: _, ...record } = newest.record
  return record
}

/**
 * Puts a record in place of those that were found, and declares the group unless it `isWhole`: with a record of its own before that, so that
 * whoever comes after a crash makes it as it was begun.
 *
 * The record is written anew each time: what this channel has taken comes back some time after its end, and who looks before must find one.
 */
async function writeGroup(
  sender: Link,
  channel: AmqpChannel,
  about: { prefix: string; record: GroupRecord; found: readonly Written[]; isWhole: boolean },
): Promise<void> {
  const { prefix, record, found, isWhole } = about
  const names = groupNames(prefix, record.group)
  const write = async (written: Begun): Promise<void> => {
    const parcel = { exchange: '', routingKey: names.record, body: Buffer.from(JSON.stringify(written)) }
    const [receipt] = await (await sender.session()).publish([parcel])
    if (receipt !== 'stored') throw new StoreError(`RabbitMQ: the record of group ${show(record.group)} was not taken`)
  }
  let begun: AmqpMessage | false = false
  if (!isWhole) {
    await write({ ...record, begun: true })
    await declareGroup(channel, prefix, record)
    begun = await channel.get(names.record)
  }
  await write(record)
  const kept = new Set(routesOf(record.types).map(([, route]) => route))
  const old = found.flatMap(({ record: { types } }) => routesOf(types)).filter(([, route]) => !kept.has(route))
  const exchange = messagesExchange(prefix)
  await Promise.all(old.map(([slot, it]) => channel.unbindQueue(queueOf(record, names, slot), exchange, it)))
  for (const { message } of found) channel.ack(message)
  if (begun) channel.ack(begun)
}

/** Runs `work`; `otherwise` when it names a queue that is not there. */
export async function orMissing<T>(work: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (codeOf(error) === NOT_FOUND) return otherwise
    throw error
  }
}

/** The broker counts a consumer for a moment after the end of its channel. */
const PARTING_MS = 1_000

/** Whether somebody consumes, and goes on. */
async function isConsumed(session: Session, names: GroupNames, { options: { clock } }: Link): Promise<boolean> {
  for (const late = clock.now() + PARTING_MS; await hasConsumers(session, names); await clock.sleep(20))
    if (clock.now() > late) return true
  return false
}

async function hasConsumers(session: Session, names: GroupNames): Promise<boolean> {
  for (let i = 0; i < SLOTS; i++) {
    const check = session.use((channel) => channel.checkQueue(names.queue(i)))
    const state = await orMissing(check, undefined)
    if (!state) return false
    if (state.consumerCount > 0) return true
  }
  return false
}
