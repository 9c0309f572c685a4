import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { Servers, type Server } from '../scripts/servers.mjs'
import { Proxy } from '../test/support/proxy.js'
import {
  BACK_LIMIT_MS,
  CALL_LIMIT_MS,
  LOAD_MS,
  nowMs,
  STALE_LIMIT_MS,
  type Found,
  type Outage,
  type Watch,
} from './cache-faults.js'
import { libraries, type Library, type Ports } from './cache-libraries.js'

// Prints as JSON what becomes of one library, by name, when its Redis fails: Found.

const WRITES = 300
const LOST = 5
const MISSES = 50

const [name] = process.argv.slice(2)
const open = libraries[name as keyof typeof libraries]

/** How a call ended, and after how long; Infinity: not within the limit. */
interface Ended {
  readonly ms: number
  readonly answer: string
}

async function ended(call: Promise<unknown>): Promise<Ended> {
  const began = nowMs()
  const answer = call.then(String, () => 'error')
  const late = new AbortController()
  const limit = sleep(CALL_LIMIT_MS, 'none', { signal: late.signal }).catch(() => 'none')
  const first = await Promise.race([answer, limit])
  late.abort()
  return { ms: first === 'none' ? Infinity : nowMs() - began, answer: first }
}

/** A miss, without the time of its load. */
async function miss(cache: Library, key: string): Promise<Ended> {
  let loading = 0
  const { ms, answer } = await ended(
    cache.getOrSet(key, async () => {
      const began = nowMs()
      await sleep(LOAD_MS)
      loading = nowMs() - began
      return 'loaded'
    }),
  )
  return { ms: ms - loading, answer }
}

/** A hundred callers of a load that fails: how many loads that is, and how long all wait, as a multiple of one load. */
async function failing(cache: Library): Promise<Found['failing'][number]> {
  let [loads, loadMs] = [0, 0]
  const load = async (): Promise<string> => {
    loads++
    const began = nowMs()
    await sleep(LOAD_MS)
    loadMs = nowMs() - began
    throw new Error('no')
  }
  const all = await Promise.all(Array.from({ length: 100 }, () => ended(cache.getOrSet('failing', load))))
  return { loads, times: Math.max(...all.map(({ ms }) => ms)) / loadMs }
}

/** A process that reads. `watch` says when it last read something older. */
interface Reader {
  watch(job: Watch): Promise<number>
  close(): void
}

/** One that has read `k`, and hears messages. */
async function reader({ commands, messages }: Ports): Promise<Reader> {
  const child = fork('bench/cache-reader.ts', [name!, `${commands}`, `${messages}`], { stdio: 'inherit' })
  const told = async (): Promise<number> => ((await once(child, 'message')) as [number])[0]
  await told()
  const watch = (job: Watch): Promise<number> => {
    child.send(job)
    return told()
  }
  await watch({ key: 'k', value: 'first', limitMs: STALE_LIMIT_MS })
  await sleep(500)
  return {
    watch,
    close: () => void child.kill(),
  }
}

/** Writes until it is acknowledged. */
async function write(cache: Library, key: string, value: string): Promise<number> {
  while (['error', 'none', 'queued'].includes((await ended(cache.set(key, value))).answer)) await sleep(5)
  return nowMs()
}

/** How long after the write `other` reads what was there before. */
async function staleness(cache: Library, other: Reader, value: string): Promise<number> {
  const last = other.watch({ key: 'k', value, limitMs: STALE_LIMIT_MS })
  await sleep(3) // it is reading
  const acknowledged = await write(cache, 'k', value)
  const old = (await last) - acknowledged
  return old > STALE_LIMIT_MS - 500 ? Infinity : Math.max(0, old)
}

/** Until the first that is not found out at all: so are the others. */
async function until<T>(times: number, one: (i: number) => Promise<T>): Promise<T[]> {
  const all: T[] = []
  while (all.length < times && all.at(-1) !== Infinity) all.push(await one(all.length))
  return all
}

async function lost(cache: Library, { port }: Server): Promise<number[]> {
  const messages = await Proxy.to(port)
  const other = await reader({ commands: port, messages: messages.port })
  const all = await until(LOST, async (i) => {
    messages.set('open')
    await sleep(500)
    if ((await staleness(cache, other, `there ${i}`)) === Infinity) return Infinity
    await sleep(137 * i) // somewhere between two of its questions
    messages.set('silent')
    return staleness(cache, other, `lost ${i}`)
  })
  other.close()
  messages.close()
  return all
}

async function outage(cache: Library, server: Server, fail: () => void, mend: () => unknown): Promise<Outage> {
  await write(cache, 'deleted', 'v')
  fail()
  const misses: Ended[] = []
  while (misses.length < MISSES && misses.at(-1)?.ms !== Infinity) misses.push(await miss(cache, `new ${nowMs()}`))
  const changes = await Promise.all([ended(cache.set('changed', 'v')), ended(cache.delete('deleted'))])
  await mend()
  const back = await used(cache, server)
  return {
    misses: misses.map(({ ms }) => ms),
    changes: changes.map(({ ms }) => ms),
    answers: changes.map(({ answer }) => answer),
    errors: [...misses, ...changes].filter(({ answer }) => answer === 'error').length,
    back,
  }
}

/** Milliseconds until something that is written from now on is in Redis. */
async function used(cache: Library, { port }: Server): Promise<number> {
  const began = nowMs()
  const admin = new Redis(port)
  let ms = Infinity
  const again = `again ${began}`
  for (let i = 0; ms === Infinity && nowMs() - began < BACK_LIMIT_MS; i++) {
    cache.set(`${again} ${i}`, 'v').catch(() => {})
    await sleep(10)
    if ((await admin.keys(`*${again}*`)).length > 0) ms = nowMs() - began
  }
  admin.disconnect()
  return ms
}

async function run(): Promise<Found> {
  const servers = new Servers() // end with this process
  const server = await servers.redis()
  const { pid, port } = server
  const ports = { commands: port, messages: port }
  const [cache, other] = [open(ports), await reader(ports)]
  await failing(cache) // it is compiled
  const failed = await until(5, () => failing(cache))
  for (let i = 0; i < 20; i++) await miss(cache, `warm ${i}`)
  const healthy = await until(WRITES, (i) => staleness(cache, other, `healthy ${i}`))
  const afterLoss = await lost(cache, server)
  const stopped = await outage(
    cache,
    server,
    () => process.kill(pid, 'SIGSTOP'),
    () => process.kill(pid, 'SIGCONT'),
  )
  await staleness(cache, other, 'before')
  const killed = await outage(
    cache,
    server,
    () => process.kill(pid, 'SIGKILL'),
    () => servers.redis({ port }),
  )
  const restarted = [await staleness(cache, other, 'after')]
  other.close()
  return { failing: failed, stopped, killed, stale: { healthy, lost: afterLoss, restarted } }
}

process.stdout.write(JSON.stringify(await run()), () => process.exit(0))
