import { fork, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { Job, News } from './participant.js'

/** A process that runs a job. */
export interface Worker {
  readonly child: ChildProcess
  /** What it told, in its order. */
  readonly news: readonly News[]
  /** When it is no more and all that it told is there: monotonic milliseconds of its end. */
  readonly gone: Promise<number>
  run(job: Job, listener?: (news: News) => void): void
}

/** Processes that have loaded everything, and wait for a job: starting one costs more than a job. */
export class Processes {
  readonly #spare: Worker[] = []
  readonly #all = new Set<ChildProcess>()
  #closed = false

  constructor(
    private readonly script: string,
    private readonly spares: number,
  ) {
    for (let i = 0; i < spares; i++) this.#spare.push(this.#fork())
  }

  take(): Worker {
    const worker = this.#spare.shift() ?? this.#fork()
    if (!this.#closed && this.#spare.length < this.spares) this.#spare.push(this.#fork())
    return worker
  }

  close(): void {
    this.#closed = true
    for (const child of this.#all) child.kill('SIGKILL')
  }

  #fork(): Worker {
    const child = fork(this.script, { stdio: ['ignore', 'inherit', 'inherit', 'pipe', 'ipc'] })
    this.#all.add(child)
    const news: News[] = []
    let hear: ((one: News) => void) | undefined
    const lines = createInterface(child.stdio[3] as Readable)
    lines.on('line', (line) => {
      const one = JSON.parse(line) as News
      news.push(one)
      hear?.(one)
    })
    const ended = new Promise<number>((resolve) => child.once('exit', () => resolve(performance.now())))
    const told = new Promise<void>((resolve) => lines.once('close', resolve))
    const gone = Promise.all([ended, told]).then(([at]) => at)
    void gone.then(() => this.#all.delete(child))
    return {
      child,
      news,
      gone,
      run(job, listener) {
        hear = listener
        child.send(job)
      },
    }
  }
}
