import type { Clock } from '../kernel/clock.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import {
  attemptOf,
  contextOf,
  Refusal,
  started,
  wrapWith,
  type Attempt,
  type CallContext,
  type ExecuteOptions,
  type Operation,
} from '../kernel/policy.js'
import { BulkheadFullError } from './bulkhead-full-error.js'
import type { Bulkhead, BulkheadEvents } from './bulkhead.js'
import { Line, type Waiting } from './line.js'

/** {@link QueueOptions}, checked. */
export interface GateOptions {
  readonly maxQueued: number
  readonly queueTimeoutMs: number
  readonly clock: Clock
}

/** Is told of each call: `begin` when it starts, what that returned to `end` when its place is free again. */
export interface GateObserver {
  /** @returns whatever `end` wants to know */
  begin(running: number): number
  /** `failed` and `error` tell of a call that threw; `aborted` of one that its caller has given up. */
  end(begun: number, failed: boolean, error: unknown, aborted: boolean): void
}

/** Places for calls, and the line of those who wait for one. How many places there are may change at any time. */
export class Gate implements Bulkhead {
  #limit: number
  #running = 0
  readonly #line = new Line()
  readonly #options: GateOptions
  readonly #observer: GateObserver | undefined
  #events: Emitter<BulkheadEvents> | undefined

  constructor(limit: number, options: GateOptions, observer?: GateObserver) {
    this.#limit = limit
    this.#options = options
    this.#observer = observer
  }

  get running(): number {
    return this.#running
  }

  get queued(): number {
    return this.#line.length
  }

  /** How many may run. More of them let in those who wait; with fewer, those who run are left to end. */
  get limit(): number {
    return this.#limit
  }

  set limit(limit: number) {
    this.#limit = limit
    this.#admit()
  }

  on<K extends keyof BulkheadEvents>(name: K, listener: (event: BulkheadEvents[K]) => unknown): Unsubscribe {
    return (this.#events ??= new Emitter()).on(name, listener)
  }

  execute<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<T> {
    const entered = this.#enter(operation, options)
    return entered instanceof Refusal ? Promise.reject(entered.error) : entered
  }

  attempt<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<Attempt<T>> {
    const entered = this.#enter(operation, options)
    return entered instanceof Refusal ? Promise.resolve(entered) : attemptOf(entered)
  }

  wrap<A extends unknown[], T>(fn: (...args: A) => T | PromiseLike<T>): (...args: A) => Promise<T> {
    return wrapWith((operation) => this.execute(operation), fn)
  }

  #enter<T>(operation: Operation<T>, options: ExecuteOptions | undefined): Promise<T> | Refusal {
    const context = contextOf(options)
    const owns = context !== options
    if (context.aborted) return Promise.reject(context.reason)
    this.#admit() // who waits is first: nobody does while a place is free, unless the limit has just grown, and one it lets in calls
    if (this.#running < this.#limit) return this.#run(operation, context, owns)
    if (this.#line.length >= this.#options.maxQueued) return this.#refuse(0)
    return this.#wait(operation, context, owns)
  }

  #run<T>(operation: Operation<T>, context: CallContext, owns: boolean): Promise<T> {
    const observer = this.#observer
    const begun = observer ? observer.begin(++this.#running) : void this.#running++
    return started(operation, context).then(
      (value) => {
        const { aborted } = context
        if (owns) context.release()
        this.#running--
        observer?.end(begun!, false, undefined, aborted)
        this.#admit()
        return value
      },
      (error) => {
        const { aborted } = context
        if (owns) context.release()
        this.#running--
        observer?.end(begun!, true, error, aborted)
        this.#admit()
        throw error
      },
    )
  }

  #wait<T>(operation: Operation<T>, context: CallContext, owns: boolean): Promise<T> {
    const { clock, queueTimeoutMs } = this.#options
    return new Promise<T>((resolve, reject) => {
      const waiting: Waiting = {
        enter: () => {
          leave()
          resolve(this.#run(operation, context, owns))
        },
        before: undefined,
        behind: undefined,
      }
      const leave = (): void => {
        cancel()
        forget()
      }
      const giveUp = (reason: () => unknown): void => {
        this.#line.remove(waiting)
        leave()
        if (owns) context.release()
        reject(reason())
      }
      const cancel = clock.setTimer(
        () => giveUp(() => this.#refuse(queueTimeoutMs).error),
        queueTimeoutMs, // `Infinity` is no timer
        { keepAlive: true },
      )
      const forget = context.onAbort(() => giveUp(() => context.reason))
      this.#line.add(waiting)
      this.#events?.emit('queued', { running: this.#running, queued: this.#line.length })
    })
  }

  #admit(): void {
    while (this.#running < this.#limit) {
      const next = this.#line.shift()
      if (!next) return
      next.enter()
    }
  }

  #refuse(waitedMs: number): Refusal {
    const running = this.#running
    const queued = this.#line.length
    this.#events?.emit('refused', { running, queued, waitedMs })
    const why = waitedMs === 0 ? `${running} running, ${queued} waiting` : `no place came free within ${waitedMs} ms`
    return new Refusal(() => new BulkheadFullError(`bulkhead is full: ${why}`))
  }
}
