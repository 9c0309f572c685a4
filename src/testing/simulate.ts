import { checkNumber, checkObject, checkPositive, checkString, invalid } from '../kernel/check.js'
import type { OutgoingMessage } from '../messaging/message.js'
import { everyNode, type SagaDefinition } from '../saga/definition.js'
import type { SagaSignal } from '../saga/signal.js'
import type { SagaOutcome, SagaView } from '../saga/view.js'
import { ManualClock } from './manual-clock.js'
import { SagaWorld, type SimulatedTransaction } from './saga-world.js'

/** A saga, or a function that makes it from fresh {@link SimulateOptions.effects}. */
export type SagaUnderTest<Input, Results, Effects> =
  | SagaDefinition<Input, Results>
  | ((effects: Effects) => SagaDefinition<Input, Results>)

/** A signal that comes from outside. */
export interface PlannedSignal {
  /** As it was declared. */
  readonly signal: SagaSignal
  /** Anything the codec can store. */
  readonly payload: unknown
  /** Virtual milliseconds after the saga was stored. ≥ 0. @defaultValue 0 */
  readonly atMs?: number | undefined
}

/** A body that fails at every attempt. */
export interface PlannedFailure {
  /** Of the node. */
  readonly path: string
  /** Which of its bodies. @defaultValue 'run' */
  readonly body?: 'run' | 'compensate' | undefined
  /**
   * `'fails'`: it throws before it has begun. `'unsure'`: it has its effect, then the answer is lost, so that its outcome is unknown
   * (of a transaction: it is rolled back). @defaultValue 'fails'
   */
  readonly how?: 'fails' | 'unsure' | undefined
}

/** A moment at which a process may crash. */
export interface SagaPoint {
  /** What `crashAt` knows it by: `before run reserve`, `after write 2`, `after compensate reserve #2` (the second time). */
  readonly name: string
  /** Of a write: what it says. */
  readonly about: string | undefined
  /** Virtual milliseconds since the run began. */
  readonly atMs: number
}

/** How {@link simulate} is to run a saga. */
export interface SimulateOptions<Effects = undefined> {
  /**
   * Makes the outer world afresh: fakes of what the bodies call. They may take virtual time with `clock.sleep`; real I/O and real
   * timers do not fit in, for the clock does not wait for them. @defaultValue none
   */
  readonly effects?: ((clock: ManualClock) => Effects) | undefined
  /** Begins a transaction of the fake database, for `.transaction` nodes. @defaultValue a `tx` that can't be asked anything */
  readonly begin?: ((effects: Effects) => SimulatedTransaction) | undefined
  /** Each comes once, whatever crashes. @defaultValue none */
  readonly signals?: readonly PlannedSignal[] | undefined
  /** Virtual milliseconds after which it is cancelled. ≥ 0. @defaultValue never */
  readonly cancelAtMs?: number | undefined
  /** Bodies that fail; a text is the path of one whose `run` fails for certain. @defaultValue none */
  readonly failAt?: string | PlannedFailure | readonly (string | PlannedFailure)[] | undefined
  /** Names of points at which the process that comes there crashes. @defaultValue none */
  readonly crashAt?: string | readonly string[] | undefined
  /** As of the orchestrator: another process goes on after it. > 0. @defaultValue 10_000 */
  readonly leaseMs?: number | undefined
  /** Virtual milliseconds after which a saga counts as one that does not end. > 0. @defaultValue 604_800_000 (a week) */
  readonly maxMs?: number | undefined
  /** @defaultValue a clock of its own */
  readonly clock?: ManualClock | undefined
}

/** How a simulated run ended. */
export interface SimulatedSaga<Results = unknown, Effects = unknown> {
  /** `completed`, `compensated` or `parked`; any other: it does not end by itself. */
  readonly status: SagaView['status']
  /** `undefined` when it does not end. */
  readonly outcome: SagaOutcome<Results> | undefined
  /** As `orchestrator.get` gives it. */
  readonly view: SagaView
  /** What {@link SimulateOptions.effects} made for this run. */
  readonly effects: Effects
  /** What was published, in order; more than once after some crashes, under the same id. */
  readonly published: readonly OutgoingMessage[]
  /** The plan: which bodies failed. */
  readonly failed: readonly PlannedFailure[]
  /** Where a process crashed. */
  readonly crashes: readonly SagaPoint[]
  /** All points that were passed, in order: each may be given to `crashAt`. */
  readonly points: readonly SagaPoint[]
  /** Virtual milliseconds. */
  readonly durationMs: number
  /** What happened, one line each. */
  readonly story: string
  /** The same as a Mermaid sequence diagram. */
  readonly mermaid: string
}

/**
 * Runs a saga in memory and in virtual time: retries, pauses, waits and deadlines pass at once. A process that crashes takes what it
 * knew with it, and another goes on from the journal when the lease has run out. Bodies that were under way in other branches go on
 * to their end, as those of a process do that is cut off. The same for the same arguments.
 * @throws InvalidOptionError when an option is wrong, or a path of `failAt` is none of the saga; what `run` of an orchestrator throws.
 */
export async function simulate<Input, Results, Effects = undefined>(
  saga: SagaUnderTest<Input, Results, Effects>,
  input: NoInfer<Input>,
  options: SimulateOptions<Effects> = {},
): Promise<SimulatedSaga<Results, Effects>> {
  const { begin, signals = [], leaseMs = 10_000, maxMs = 604_800_000 } = checkObject('options', options)
  const { clock = new ManualClock(), cancelAtMs, crashAt = [] } = options
  const effects = options.effects?.(clock) as Effects
  const definition = typeof saga === 'function' ? saga(effects) : saga
  const failAt = planOf(options.failAt, definition)
  const world = new SagaWorld<Effects>({
    ...{ clock, effects, begin, failAt },
    signals: signals.map((planned) => ({ ...planned, atMs: checkNumber('atMs', planned.atMs ?? 0, 0) })),
    cancelAtMs: cancelAtMs === undefined ? Infinity : checkNumber('cancelAtMs', cancelAtMs, 0),
    crashAt: [crashAt].flat().map((name) => checkString('crashAt', name)),
    leaseMs: checkPositive('leaseMs', leaseMs),
    maxMs: checkPositive('maxMs', maxMs),
  })
  const { view, outcome } = await world.run(definition, input)
  return {
    ...{ status: view.status, outcome, view, effects, failed: failAt },
    ...{ published: world.published, crashes: world.crashes, points: world.points },
    ...{ durationMs: world.durationMs, story: world.story, mermaid: world.diagram },
  }
}

function planOf(failAt: SimulateOptions['failAt'] = [], { nodes }: SagaDefinition): Required<PlannedFailure>[] {
  const bodies = new Set([...everyNode(nodes)].flatMap((node) => ('run' in node ? node.path : [])))
  return [failAt].flat().map((given) => {
    const { path, body = 'run', how = 'fails' } = typeof given === 'string' ? { path: given } : given
    if (!bodies.has(path)) invalid('failAt', `the path of a step: ${[...bodies].join(', ')}`, path)
    return { path, body, how }
  })
}
