import { checkFunction, checkOneOf, checkPositive } from '../kernel/check.js'
import { everyNode, type SagaDefinition } from '../saga/definition.js'
import { toMermaid } from '../saga/mermaid.js'
import { reportText } from './crash-report.js'
import { isEnd } from './diary.js'
import { ManualClock } from './manual-clock.js'
import {
  simulate,
  type PlannedFailure,
  type SagaUnderTest,
  type SimulateOptions,
  type SimulatedSaga,
} from './simulate.js'

/** What {@link exploreCrashes} is to try. */
export interface ExploreOptions<Input, Results, Effects = undefined> extends Omit<
  SimulateOptions<Effects>,
  'failAt' | 'crashAt' | 'clock'
> {
  /** The saga, or what makes it from the effects of one run. */
  readonly saga: SagaUnderTest<Input, Results, Effects>
  /** The same in each run. */
  readonly input: NoInfer<Input>
  /**
   * What must hold at the end of every run, whatever crashed: throws when it does not. That a saga ends by itself is checked
   * anyway. @defaultValue nothing more
   */
  readonly check?: ((end: SimulatedSaga<Results, Effects>) => void | Promise<void>) | undefined
  /**
   * How each step, transaction and pivot is made to fail, one at a time, besides the run in which none does.
   * `['fails', 'unsure']`: once for certain and once with its answer lost. @defaultValue none
   */
  readonly failures?: readonly ('fails' | 'unsure')[] | undefined
  /** How many crashes a run may have: with 2, every point after every first crash is tried too. @defaultValue 1 */
  readonly crashes?: 1 | 2 | undefined
  /** Runs after which it gives up. > 0. @defaultValue 50_000 */
  readonly maxRuns?: number | undefined
}

/** One plan: which body fails, and what came of it in all its crashes. A plan that breaks without a crash is tried without any. */
export interface ExploredPlan {
  /** `undefined`: none. */
  readonly failAt: PlannedFailure | undefined
  /** Points of the run without a crash, in order. */
  readonly points: readonly string[]
  /** How many runs ended how. */
  readonly ends: Readonly<Record<string, number>>
  /** How many broke what must hold. */
  readonly broken: number
}

/** A run in which something did not hold that must. */
export interface BrokenRun<Results = unknown, Effects = unknown> {
  /** `undefined`: none. */
  readonly failAt: PlannedFailure | undefined
  /** To be given to {@link simulate}, with the same options, to see this run again. */
  readonly crashAt: readonly string[]
  /** What `check` threw. */
  readonly error: unknown
  /** The run. */
  readonly end: SimulatedSaga<Results, Effects>
  /** The definition as a Mermaid flowchart, coloured by how far the saga got. */
  readonly flowchart: string
}

/** What {@link exploreCrashes} found. */
export interface CrashReport<Results = unknown, Effects = unknown> {
  /** How many runs there were. */
  readonly runs: number
  /** One per plan, in order. */
  readonly plans: readonly ExploredPlan[]
  /** In the order they were found: those with the fewest crashes of their plan first. */
  readonly broken: readonly BrokenRun<Results, Effects>[]
  /** All of it, for people. */
  readonly text: string
}

/** Something did not hold that must: `message` is the report, `cause` what the first broken check threw. */
export class CrashesBrokeError extends Error {
  override readonly name = 'CrashesBrokeError'

  constructor(readonly report: CrashReport) {
    super(report.text, { cause: report.broken[0]?.error })
  }
}

/**
 * Runs a saga with a crash at every point there is: before and after each write of the journal, each body and each publication; for
 * each plan of failures. Each run begins with fresh effects, in virtual time: see {@link simulate}.
 * @throws CrashesBrokeError when what must hold did not in some run: its message says in which, what happened in it, and how to see it
 * again. Error when a point is not reached again, because the saga's bodies do not do the same each time, or `maxRuns` is too few.
 * InvalidOptionError.
 */
export async function exploreCrashes<Input, Results, Effects = undefined>(
  options: ExploreOptions<Input, Results, Effects>,
): Promise<CrashReport<Results, Effects>> {
  const { saga, input, check = () => {}, failures = [], crashes = 1, maxRuns = 50_000, ...rest } = options
  checkFunction('check', check)
  for (const how of failures) checkOneOf('failures', how, ['fails', 'unsure'])
  checkOneOf('crashes', String(crashes), ['1', '2'])
  checkPositive('maxRuns', maxRuns)
  const definition = typeof saga === 'function' ? saga(rest.effects?.(new ManualClock()) as Effects) : saga
  const broken: BrokenRun<Results, Effects>[] = []
  const plans: ExploredPlan[] = []
  let runs = 0
  for (const failAt of plansOf(definition, failures)) {
    const ends: Record<string, number> = {}
    const brokenBefore = broken.length
    const tryOut = async (crashAt: readonly string[]): Promise<readonly string[]> => {
      if (++runs > maxRuns) throw new Error(`more than ${maxRuns} runs: raise maxRuns, or make the saga smaller`)
      const end = await simulate(saga, input, { ...rest, crashAt, failAt: failAt ?? [] })
      const missed = crashAt.find((name) => !end.crashes.some((point) => point.name === name))
      if (missed !== undefined)
        throw new Error(
          `'${missed}' was not reached again: the saga's bodies do not do the same each time\n${end.story}`,
        )
      ends[end.status] = (ends[end.status] ?? 0) + 1
      try {
        if (!isEnd(end.status)) throw new Error(`the saga does not end: it is still ${end.status}`)
        await check(end)
      } catch (error) {
        broken.push({ failAt, crashAt, error, end, flowchart: toMermaid(definition, end.view) })
      }
      return end.points.map(({ name }) => name)
    }
    const points = await tryOut([])
    const isFine = broken.length === brokenBefore // else every crash would only say the same again
    const afterFirst: (readonly string[])[] = []
    if (isFine) for (const first of points) afterFirst.push(await tryOut([first]))
    if (isFine && crashes === 2)
      for (const [i, first] of points.entries())
        for (const second of afterFirst[i]!.slice(i + 1)) await tryOut([first, second])
    plans.push({ failAt, points, ends, broken: broken.length - brokenBefore })
  }
  const found = { runs, plans, broken }
  const report = { ...found, text: reportText(definition.name, found) }
  if (broken.length > 0) throw new CrashesBrokeError(report)
  return report
}

function* plansOf(
  { nodes }: SagaDefinition,
  failures: readonly ('fails' | 'unsure')[],
): Generator<PlannedFailure | undefined> {
  yield undefined
  for (const node of everyNode(nodes))
    if ('run' in node)
      for (const how of new Set(failures))
        if (how === 'fails' || node.kind !== 'transaction') yield { path: node.path, how }
}
