import { Redis } from 'ioredis'
import { FlowProducer, Worker } from 'bullmq'
import { RedisSagaStore } from 'holdfast/saga/redis'
import { Servers } from '../scripts/servers.mjs'
import { sequential, type Comparison } from './harness.js'
import { freshId, order, runOn, STEPS, type RunOne } from './saga-orders.js'

const FLOOR = 'Lua, a fenced journal by hand (floor)'
const OURS = 'holdfast'
const BULLMQ = 'BullMQ 6.7, a flow of three'

/** A write if the saga's epoch is still the writer's: the record, where the saga stands, and its place among those that have a lease. */
const COMMIT = `if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] or redis.call('LLEN', KEYS[2]) ~= tonumber(ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[1], 'status', ARGV[4])
local time = redis.call('TIME')
if ARGV[4] == '0' then redis.call('ZADD', KEYS[3], time[1] * 1000 + 10000, KEYS[1])
else
  redis.call('ZREM', KEYS[3], KEYS[1])
  redis.call('PEXPIRE', KEYS[1], 60000)
  redis.call('PEXPIRE', KEYS[2], 60000)
end
return 1`
const CREATE = `if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'epoch', 1, 'input', ARGV[1], 'status', 0)
redis.call('ZADD', KEYS[2], redis.call('TIME')[1] * 1000 + 10000, KEYS[1])
return 1`

function luaJournal(client: Redis): RunOne {
  client.defineCommand('createSaga', { numberOfKeys: 2, lua: CREATE })
  client.defineCommand('commitSaga', { numberOfKeys: 3, lua: COMMIT })
  const { createSaga, commitSaga } = client as unknown as Record<
    string,
    (...args: (string | number)[]) => Promise<number>
  >
  const input = JSON.stringify(order)
  return async () => {
    const key = `floor:${freshId()}`
    await createSaga!.call(client, key, 'floor:due', input)
    for (let position = 0; position < STEPS; position++) {
      const result = await Promise.resolve({ step: position })
      const record = JSON.stringify({ at: Date.now(), path: 'step', result })
      const status = position === STEPS - 1 ? 1 : 0
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const ok = await commitSaga!.call(client, key, `${key}:journal`, 'floor:due', 1, position, record, status)
      if (ok !== 1) throw new Error('fenced')
    }
  }
}

/** Three jobs, each the parent of the one before it: the nearest that it has to three steps. */
function bullMq(url: string): RunOne {
  const connection = (): Redis => new Redis(url, { maxRetriesPerRequest: null })
  const flows = new FlowProducer({ connection: connection() })
  const ended = new Map<string, () => void>()
  const worker = new Worker(
    'steps',
    async ({ name, data }) => {
      if (name === 'ship') ended.get((data as { id: string }).id)?.()
      return { done: name }
    },
    { connection: connection(), concurrency: 64 },
  )
  worker.on('error', console.error)
  const keep = { removeOnComplete: true }
  return async () => {
    const id = freshId()
    const end = new Promise<void>((resolve) => ended.set(id, resolve))
    const step = (name: string, ...children: object[]): object => ({
      ...{ name, queueName: 'steps', data: { ...order, id }, opts: keep, children },
    })
    await flows.add(step('ship', step('charge', step('reserve'))) as Parameters<FlowProducer['add']>[0])
    await end
    ended.delete(id)
  }
}

/** Sagas of three steps on a Redis without persistence, each candidate on its own connection. */
export async function sagaRedis(): Promise<readonly Comparison[]> {
  const { url } = await new Servers().redis() // ends with this process
  const run = new Map([
    [FLOOR, luaJournal(new Redis(url))],
    [OURS, runOn(new RedisSagaStore(new Redis(url), { prefix: 'ours:', retainMs: 60_000 }))],
    [BULLMQ, bullMq(url)],
  ])
  return [1, 16, 64].map((callers) => ({
    title: `Saga on Redis, three steps, ${callers} at once`,
    callers,
    candidates: [...run].map(([name, one]) => ({ name, batch: sequential(one) })),
    targets: [
      { candidate: OURS, than: FLOOR, rate: 0.75 },
      { candidate: OURS, than: BULLMQ, rate: 4 },
    ],
  }))
}
