import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import type { Message } from '../../src/messaging/index.js'
import type { RabbitMqEventBus } from '../../src/messaging/rabbitmq.js'
import { groupNames } from '../../src/messaging/rabbitmq-wire.js'
import { range } from '../conformance/event-bus/bench.js'
import { until } from '../support/until.js'
import { openBus, ownPrefix } from './broker.js'

// A broker of its own, that is stopped and killed. On a busy machine it takes its time to start.

const servers = new Servers()
let broker: Awaited<ReturnType<Servers['rabbitmq']>>
beforeAll(async () => {
  broker = await servers.rabbitmq()
}, 150_000)
afterAll(() => servers.stop())

function open(prefix: string, more = ''): RabbitMqEventBus {
  const bus = openBus({ prefix }, broker.url + more)
  onTestFinished(() => bus.close())
  return bus
}

const many = (count: number, key: string) => range(count).map((data) => ({ type: 'A', data, key }))

test('a broker that hangs fails a publish in time, is noticed by its missing heartbeats, and is used again when it goes on', async () => {
  const bus = open(ownPrefix(), '?heartbeat=1')
  const seen: unknown[] = []
  await bus.subscribe({ group: 'g', types: ['A'], handle: ({ data }) => void seen.push(data) })
  const lost: unknown[] = []
  bus.on('disconnected', ({ error }) => lost.push(error))
  process.kill(broker.pid, 'SIGSTOP')
  try {
    await expect(bus.publish({ type: 'A', data: 0 })).rejects.toMatchObject({ code: 'STORE_FAILED' })
    await until(() => lost.length > 0)
    expect(String(lost[0])).toContain('eartbeat')
  } finally {
    process.kill(broker.pid, 'SIGCONT')
  }
  await until(async () => {
    await bus.publish({ type: 'A', data: 1 }).catch(() => {})
    return seen.includes(1)
  })
}, 60_000)

test('messages, retries and dead letters outlive a broker that is killed and started again', async () => {
  const prefix = ownPrefix()
  const bus = open(prefix)
  const seen: Message[] = []
  let heal = false
  const handle = (message: Message): void => {
    if (message.key === 'later' && !heal) throw new Error('no')
    seen.push(message)
  }
  const retry = { attempts: 1_000, backoff: () => 200 }
  for (const order of ['key', 'none'] as const)
    await bus.subscribe({ group: order, types: ['A'], order, handle, retry })
  const dying = await bus.subscribe({ group: 'dying', types: ['A'], handle, retry: { attempts: 1 } })
  await bus.publish([...many(3, 'later'), ...many(5, 'fine')])
  await until(async () => seen.length >= 15 && (await bus.deadLetters('dying').list()).length === 3)
  await dying.close()
  await until(() => isListed(groupNames(prefix, 'none').delay(224)))
  process.kill(broker.pid, 'SIGKILL')
  await expect(bus.publish({ type: 'A', data: 9 })).rejects.toMatchObject({ code: 'STORE_FAILED' })
  heal = true
  seen.length = 0
  broker = await servers.rabbitmq(broker)
  await until(() => seen.filter(({ key }) => key === 'later').length >= 6, 60_000)
  expect(await bus.deadLetters('dying').list()).toHaveLength(3)
}, 240_000)

/** A broker that is killed forgets quorum queues that it made within the last second: it writes the list of them late. */
function isListed(queue: string): boolean {
  const node = `holdfast${broker.port}@localhost`
  const list = join(broker.folder, node, 'quorum', node, 'names.dets')
  return existsSync(list) && readFileSync(list, 'latin1').includes(queue)
}
