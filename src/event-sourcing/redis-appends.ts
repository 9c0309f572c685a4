import { StoreError } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import { defineScript, type RedisArg, type RedisClient } from '../kernel/redis.js'
import type { AppendCall } from './redis-rows.js'
import { appendLua } from './redis-append.lua.js'

const script = defineScript(appendLua)

/** Appends in one script call: with more of them, the server and this process would work in turn and not side by side. */
const MOST_APPENDS = 32
/** Events, and characters of them, in one script call: longer ones would hold up the server's other clients. */
const MOST_EVENTS = 1_000
const MOST_SIZE = 2_000_000
/** Answers that one call may tell the server to forget. */
const MOST_ANSWERED = 1_000

interface Waiting {
  readonly call: AppendCall
  readonly resolve: (line: string) => void
  readonly reject: (error: unknown) => void
}

/** Sends the appends of one tick in one script call, hence one atomic step after the other, and gives each its own answer. */
export class RedisAppends {
  readonly #names: readonly string[]
  #queue: Waiting[] = []
  #runs = 0
  /** Calls that are answered: what the server keeps for the case that they come again is of no use any more. */
  #answered: number[] = []

  constructor(
    private readonly client: RedisClient,
    private readonly prefix: string,
    private readonly keptMs: number,
  ) {
    this.#names = ['h', 'log', `m:${randomId()}`].map((name) => prefix + name)
  }

  /** @throws StoreError: it may or may not have been made. */
  send(call: AppendCall): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.#queue.push({ call, resolve, reject }) === 1) process.nextTick(() => this.#flush())
    })
  }

  #flush(): void {
    let together: Waiting[] = []
    let events = 0
    let size = 0
    for (const waiting of this.#queue) {
      const { call } = waiting
      const isFull =
        together.length >= MOST_APPENDS || events + call.events > MOST_EVENTS || size + call.size > MOST_SIZE
      if (isFull && together.length > 0) {
        void this.#run(together)
        together = []
        events = size = 0
      }
      together.push(waiting)
      events += call.events
      size += call.size
    }
    this.#queue = []
    void this.#run(together)
  }

  async #run(together: readonly Waiting[]): Promise<void> {
    const run = this.#runs++
    const answered = this.#answered.splice(0, MOST_ANSWERED)
    const keys = [...this.#names]
    const args: RedisArg[] = [this.prefix, run, this.keptMs, answered.length, ...answered]
    for (const { call } of together) {
      for (const key of call.keys) keys.push(key)
      for (const arg of call.args) args.push(arg)
    }
    try {
      const lines = String(await script.run(this.client, keys, args)).split('\n')
      this.#answered.push(run)
      if (lines.length !== together.length) throw new StoreError('Redis: the script gave another number of answers')
      for (const [i, { resolve }] of together.entries()) resolve(lines[i]!)
    } catch (error) {
      this.#answered.push(...answered)
      for (const { reject } of together) reject(error)
    }
  }
}
