import { checkInteger, show } from '../kernel/check.js'
import { NotFoundError, StoreError } from '../kernel/errors.js'
import type { DeadLetter, DeadLetters } from './dead-letters.js'
import type { AmqpChannel, AmqpMessage } from './rabbitmq-client.js'
import type { Lines } from './rabbitmq-link.js'
import { orMissing } from './rabbitmq-topology.js'
import { fromMessage, groupNames, toBody, type Past } from './rabbitmq-wire.js'
import { openMessage } from './stored-message.js'

/** What a channel may hold without answering: the most that AMQP can say. */
const MOST = 65_535
/** A queue puts what it gets back behind what it got back before: only if all are looked at they stay in their order. */
const AT_LEAST = 1_000

/**
 * The dead letters of a group are a queue. They are looked at by taking them and ending the channel, which puts them back where they were;
 * so whoever looks holds the group's lock, or others would miss what it has in its hands.
 */
export function rabbitMqDeadLetters({ link, sender }: Lines, prefix: string, group: string): DeadLetters {
  const names = groupNames(prefix, group)
  /** Calls `work` with the first `limit` letters; it says what of them is removed. */
  const take = (limit: number, work: (letters: AmqpMessage[], channel: AmqpChannel) => Promise<number> | number) =>
    link.exclusively(names.lock, async (session) => {
      let left = 0
      const look = async (channel: AmqpChannel): Promise<void> => {
        const { messageCount } = await channel.checkQueue(names.dead)
        const count = Math.min(limit, messageCount)
        if (count > 0) left = messageCount - (await work(await receive(channel, names.dead, count), channel))
      }
      await orMissing(session.use(look), undefined)
      // They are back some time after the channel's end.
      if (left === 0) return
      for (let i = 0; i < 200; i++) {
        const { messageCount } = await session.use((channel) => channel.checkQueue(names.dead))
        if (messageCount >= left) return
        await link.options.clock.sleep(5)
      }
    })
  const remove = async (id: string, each: (letter: AmqpMessage) => Promise<unknown>): Promise<void> => {
    let found = 0
    await take(MOST, async (letters, channel) => {
      for (const letter of letters) {
        if (fromMessage(letter).message.id !== id) continue
        await each(letter)
        channel.ack(letter)
        found++
      }
      return found
    })
    if (found === 0) throw new NotFoundError(`group ${show(group)} has no dead letter of a message ${show(id)}`)
  }
  return {
    async list(limit = 100) {
      checkInteger('limit', limit, 1)
      let list: DeadLetter[] = []
      await take(Math.min(Math.max(limit, AT_LEAST), MOST), (letters) => {
        list = letters.slice(0, limit).map(toDeadLetter)
        return 0
      })
      return list as never
    },
    requeue: (id) =>
      remove(id, async (letter) => {
        const { message, past } = fromMessage(letter)
        const queue = past.death?.queue ?? deathOf(letter)?.queue ?? names.queue(0)
        const session = await sender.session()
        const [receipt] = await session.publish([{ exchange: '', routingKey: queue, body: toBody(message) }])
        if (receipt !== 'stored') throw new StoreError(`RabbitMQ: group ${show(group)} can take no more messages now`)
      }),
    drop: (id) => remove(id, async () => {}),
  }
}

async function receive(channel: AmqpChannel, queue: string, count: number): Promise<AmqpMessage[]> {
  const letters: AmqpMessage[] = []
  await channel.prefetch(count)
  await new Promise<void>((resolve, reject) => {
    const onMessage = (message: AmqpMessage | null): void => {
      if (message) letters.push(message)
      if (!message || letters.length === count) resolve()
    }
    channel.on('close', () => reject(new StoreError('RabbitMQ: the channel ended before all dead letters had come')))
    channel.consume(queue, onMessage).catch(reject)
  })
  return letters
}

/** What the broker has written on a letter that it gave up itself. */
const deathOf = ({ properties: { headers } }: AmqpMessage): BrokersDeath | undefined =>
  (headers?.['x-death'] as BrokersDeath[] | undefined)?.[0]

interface BrokersDeath {
  readonly queue?: string
  /** Seconds. */
  readonly time?: { readonly value?: number }
}

function toDeadLetter(letter: AmqpMessage): DeadLetter {
  const { message: stored, past } = fromMessage(letter)
  const message = openMessage(stored)
  const { attempts, firstError, death = undoneBy(letter) } = past
  return {
    id: message.id,
    message,
    headers: message.headers,
    reason: death.reason,
    attempts: past.death ? attempts : attempts + 1,
    firstError: firstError ?? death.lastError,
    lastError: death.lastError,
    diedAt: new Date(death.diedAt || diedAt(letter)),
  }
}

/** It was handed out as often as it may be, and nobody ever answered. */
function undoneBy(letter: AmqpMessage): NonNullable<Past['death']> {
  const lastError = { name: 'Error', message: 'delivered again and again without an answer' }
  return { reason: 'attempts', lastError, diedAt: diedAt(letter) }
}

/** As the broker says. */
const diedAt = (letter: AmqpMessage): number => (deathOf(letter)?.time?.value ?? 0) * 1_000
