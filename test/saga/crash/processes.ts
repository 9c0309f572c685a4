import { fork, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { Job, News, ToWorker } from './participant.js'
import type { Urls } from './stores.js'

/** A process that runs jobs, one after the other, until it is killed. */
export interface Worker {
  readonly child: ChildProcess
  /** What it told of its present job, in its order. */
  readonly news: readonly News[]
  /** When it is no more and all that it told is there: monotonic milliseconds of its end. */
  readonly gone: Promise<number>
  run(job: Job, listener?: (news: News) => void): void
}

interface Own extends Worker {
  readonly ready: Promise<void>
  stop(): Promise<void>
}

/** Processes that have loaded everything, are connected, and wait for a job: starting one costs more than a job. */
export class Processes {
  readonly #spare: Own[] = []
  readonly #all = new Map<Worker, Own>()
  #closed = false

  constructor(
    private readonly script: string,
    private readonly urls: Urls,
    private readonly spares: number,
  ) {
    this.#fill()
  }

  /** One that is ready. */
  async take(): Promise<Worker> {
    const worker = this.#spare.shift() ?? this.#fork()
    this.#fill()
    await worker.ready
    return worker
  }

  /** Ends its job; another may have it. */
  async giveBack(worker: Worker): Promise<void> {
    const own = this.#all.get(worker)
    if (!own) return
    await own.stop()
    if (this.#all.has(worker)) this.#spare.unshift(own)
  }

  close(): void {
    this.#closed = true
    for (const { child } of this.#all.keys()) child.kill('SIGKILL')
  }

  #fill(): void {
    while (!this.#closed && this.#spare.length < this.spares) this.#spare.push(this.#fork())
  }

  #fork(): Own {
    const stdio = ['ignore', 'inherit', 'inherit', 'pipe', 'ipc'] as const
    const child = fork(this.script, [JSON.stringify(this.urls)], { stdio: [...stdio] })
    let news: News[] = []
    let hear: ((one: News) => void) | undefined
    const lines = createInterface(child.stdio[3] as Readable)
    const told = new Promise<void>((resolve) => lines.once('close', resolve))
    const ended = new Promise<number>((resolve) => child.once('exit', () => resolve(performance.now())))
    const gone = Promise.all([ended, told]).then(([at]) => at)
    const saying = (type: News['type']): Promise<void> => {
      const said = new Promise<void>((resolve) => waiting.push([type, resolve]))
      return Promise.race([said, gone.then(() => {})])
    }
    const waiting: [News['type'], () => void][] = []
    lines.on('line', (line) => {
      const one = JSON.parse(line) as News
      news.push(one)
      hear?.(one)
      for (const [type, resolve] of waiting) if (type === one.type) resolve()
    })
    const send = (message: ToWorker): void => void child.send(message, () => {}) // it may just have ended
    const own: Own = {
      child,
      gone,
      ready: saying('ready'),
      get news() {
        return news
      },
      run(job, listener) {
        news = []
        hear = listener
        send(job)
      },
      async stop() {
        hear = undefined
        const stopped = saying('stopped')
        send('stop')
        await stopped
      },
    }
    this.#all.set(own, own)
    void gone.then(() => {
      this.#all.delete(own)
      const at = this.#spare.indexOf(own)
      if (at >= 0) this.#spare.splice(at, 1)
    })
    return own
  }
}
