import type { OutgoingMessage } from '../messaging/message.js'
import type { SagaTransaction } from '../saga/body.js'
import { MemorySagaStore } from '../saga/memory.js'
import { SagaOrchestrator } from '../saga/orchestrator.js'
import type { SagaDefinition } from '../saga/definition.js'
import type { SagaOutcome, SagaView } from '../saga/view.js'
import { diagramOf, isEnd, storyOf, type DiaryEntry } from './diary.js'
import { settle, type ManualClock } from './manual-clock.js'
import { seededRandom } from './seeded-random.js'
import { SimulatedProcess } from './simulated-process.js'
import type { PlannedFailure, PlannedSignal, SagaPoint } from './simulate.js'

/** A database transaction of a simulated run. */
export interface SimulatedTransaction extends SagaTransaction {
  /** What was asked for takes effect. */
  commit(): void | Promise<void>
  /** What was asked for is forgotten. */
  rollback(): void | Promise<void>
}

/** What a world is made of: options with their defaults filled in. */
export interface WorldOptions<Effects> {
  readonly clock: ManualClock
  readonly effects: Effects
  readonly begin: ((effects: Effects) => SimulatedTransaction) | undefined
  readonly signals: readonly PlannedSignal[]
  readonly cancelAtMs: number
  readonly failAt: readonly Required<PlannedFailure>[]
  readonly crashAt: readonly string[]
  readonly leaseMs: number
  readonly maxMs: number
}

const ID = 'simulated'

/** Everything around one simulated saga: its store, time, the processes that come and go, and what the plan has in store for them. */
export class SagaWorld<Effects> {
  readonly clock: ManualClock
  readonly store: MemorySagaStore
  readonly published: OutgoingMessage[] = []
  readonly points: SagaPoint[] = []
  readonly crashes: SagaPoint[] = []
  readonly #options: WorldOptions<Effects>
  readonly #diary: DiaryEntry[] = []
  readonly #passed = new Map<string, number>()
  readonly #begin: number
  #writes = 0
  #publishes = 0
  /** What the orchestrator would not take. */
  #refused: { readonly error: unknown } | undefined
  readonly #cancelPlan: (() => void)[] = []

  constructor(options: WorldOptions<Effects>) {
    this.#options = options
    this.clock = options.clock
    this.#begin = this.clock.now()
    this.store = new MemorySagaStore({ clock: this.clock, retainMs: Number.MAX_SAFE_INTEGER })
  }

  get durationMs(): number {
    return this.clock.now() - this.#begin
  }

  get story(): string {
    return storyOf(this.#diary)
  }

  get diagram(): string {
    return diagramOf(this.#diary)
  }

  countWrite(): number {
    return ++this.#writes
  }

  countPublish(): number {
    return ++this.#publishes
  }

  note(process: SimulatedProcess | undefined, kind: DiaryEntry['kind'], text: string): void {
    this.#diary.push({ atMs: this.durationMs, process: process?.number, kind, text })
  }

  beginTransaction(): SimulatedTransaction | undefined {
    return this.#options.begin?.(this.#options.effects)
  }

  failureOf(body: 'run' | 'compensate', path: string): PlannedFailure['how'] {
    return this.#options.failAt.find((plan) => plan.path === path && plan.body === body)?.how
  }

  /** A process comes to a point. @returns whether it crashes there */
  pass(process: SimulatedProcess, what: string, about: string | undefined): boolean {
    const times = (this.#passed.get(what) ?? 0) + 1
    this.#passed.set(what, times)
    const point = { name: times === 1 ? what : `${what} #${times}`, about, atMs: this.durationMs }
    this.points.push(point)
    if (!this.#options.crashAt.includes(point.name)) return false
    this.crashes.push(point)
    this.note(process, 'crash', `crash ${point.name}${about ? ` (${about})` : ''}`)
    return true
  }

  /** Runs the saga to its end, or for `maxMs`. Each process that crashes is followed by another. */
  async run<Input, Results>(
    definition: SagaDefinition<Input, Results>,
    input: Input,
  ): Promise<{ view: SagaView; outcome: SagaOutcome<Results> | undefined }> {
    const outside = new SagaOrchestrator({
      store: this.store,
      sagas: [definition],
      clock: this.clock,
    })
    let begun = false
    let process: SimulatedProcess | undefined
    for (let count = 0; ;) {
      if (!process || process.dead) {
        process = new SimulatedProcess(++count, this as SagaWorld<unknown>)
        const orchestrator = this.#boot(process, definition)
        if (!begun)
          orchestrator.run(definition, input, { id: ID }).then(
            () => {
              if (!begun) this.#plan(outside)
              begun = true
            },
            (error: unknown) => (this.#refused = { error }),
          )
      }
      for (let i = 0; i < 2; i++) await settle()
      if (this.#refused) throw this.#refused.error
      if (process.dead && !(await this.#isOver())) continue
      if (await this.#isOver()) break
      const nextMs = this.clock.nextTimerMs
      if (this.durationMs + nextMs > this.#options.maxMs) break
      await this.clock.advance(nextMs)
    }
    process.kill()
    for (const cancel of this.#cancelPlan) cancel()
    const view = (await outside.get(ID))!
    this.note(undefined, 'outside', isEnd(view.status) ? view.status : `does not end: still ${view.status}`)
    const outcome = isEnd(view.status) ? await (await outside.run(definition, input, { id: ID })).settled() : undefined
    await outside.close()
    return { view, outcome }
  }

  #boot<Input, Results>(process: SimulatedProcess, definition: SagaDefinition<Input, Results>): SagaOrchestrator {
    const orchestrator = new SagaOrchestrator({
      store: process.store(),
      sagas: [process.definition(definition)],
      bus: process.bus(),
      clock: process.clock(),
      leaseMs: this.#options.leaseMs,
      random: seededRandom(process.number),
    })
    orchestrator.start()
    return orchestrator
  }

  /** What is to come from outside. */
  #plan(outside: SagaOrchestrator): void {
    const { signals, cancelAtMs } = this.#options
    const at = (atMs: number, what: string, send: () => Promise<unknown>): void => {
      const come = (): void => {
        this.note(undefined, 'outside', what)
        send().catch((error: unknown) => (this.#refused = { error }))
      }
      this.#cancelPlan.push(this.clock.setTimer(come, atMs))
    }
    for (const { signal, payload, atMs = 0 } of signals)
      at(atMs, `signal ${signal.name}`, () => outside.signal(ID, signal, payload))
    at(cancelAtMs, 'cancel', () => outside.cancel(ID, 'cancelled, as planned'))
  }

  /** Whether it has ended, and what it emitted is published. */
  async #isOver(): Promise<boolean> {
    const saga = await this.store.read(ID)
    if (!saga || !isEnd(saga.status)) return false
    let open = 0
    for (const entry of saga.journal.flatMap(({ entries }) => entries)) {
      if ('emitted' in entry) open += entry.emitted?.length ?? 0
      if (entry.type === 'published') open -= entry.count
    }
    return open <= 0
  }
}
