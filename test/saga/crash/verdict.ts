import type { JournalRecord, StoredSaga } from '../../../src/saga/index.js'
import type { News } from './participant.js'
import { failsAt, failures, STEPS, UNDOABLE, type Scenario } from './saga.js'

// What must hold of one saga once it has ended, told from outside: from what bodies did, who started them, and the journal.

export interface Effect {
  readonly path: string
  readonly undo: boolean
  readonly key: string
  readonly fence: number
}

export interface Evidence {
  readonly scenario: Scenario
  readonly saga: StoredSaga
  /** Of all processes; each one's in their order. */
  readonly news: readonly News[]
  /** In the order in which they came. */
  readonly effects: readonly Effect[]
  /** Amounts that its transactions booked; `undefined`: it has none. */
  readonly ledger: readonly number[] | undefined
  /** Whether a callee may have had to refuse somebody: only where processes were paused. */
  readonly paused: boolean
}

type Facts = Map<string, 'running' | 'done' | 'failed' | 'compensating' | 'compensated' | 'stuck'>

/** How far each node is by a journal. */
function factsOf(journal: readonly JournalRecord[]): Facts {
  const facts: Facts = new Map([['a', 'running']]) // follows from its creation
  for (const entry of journal.flatMap((record) => record.entries)) {
    if (entry.type === 'started') facts.set(entry.path, 'running')
    else if (entry.type === 'done' || entry.type === 'failed' || entry.type === 'compensating')
      facts.set(entry.path, entry.type)
    else if (entry.type === 'compensated' || entry.type === 'stuck') facts.set(entry.path, entry.type)
  }
  return facts
}

type Started = Extract<News, { type: 'started' }>
type Claimed = Extract<News, { type: 'claimed' }>

/** What is wrong; empty: nothing. */
export function verdict({ scenario, saga, news, effects, ledger, paused }: Evidence): string[] {
  const wrong: string[] = []
  const check = (holds: boolean, what: string): void => void (holds || wrong.push(what))
  const starts = news.filter((n): n is Started => n.type === 'started' && n.id === saga.id)
  const claims = news.filter((n): n is Claimed => n.type === 'claimed' && n.id === saga.id)
  const entries = saga.journal.flatMap((record) => record.entries)
  const facts = factsOf(saga.journal)

  // it ended as it must
  const cutOff = (path: string): boolean =>
    claims.some((claim) => claim.expired && factsOf(claim.journal).get(path) === 'running')
  const failing = failsAt(scenario)
  const parks = failing === 'c' || failing === 'd' || scenario === 'stuck' || (failing === 'charge' && cutOff('charge'))
  const expected = scenario === 'forward' ? 'completed' : parks ? 'parked' : 'compensated'
  check(saga.status === expected, `it is ${saga.status}, not ${expected}`)

  // recorded once; one owner per epoch
  for (const type of ['done', 'compensated'] as const) {
    const paths = entries.flatMap((entry) => (entry.type === type ? [entry.path] : []))
    check(new Set(paths).size === paths.length, `something is recorded as ${type} twice: ${paths.join()}`)
  }
  const epochs = claims.map((claim) => claim.epoch)
  check(new Set(epochs).size === epochs.length, `two owners have one epoch: ${epochs.join()}`)

  const writers = new Map<number, number>() // by position in the journal
  for (const one of news) {
    if (one.type !== 'wrote' || one.id !== saga.id) continue
    const other = writers.get(one.position) ?? one.epoch
    check(other === one.epoch, `epochs ${other} and ${one.epoch} were both told that they wrote record ${one.position}`)
    writers.set(one.position, one.epoch)
  }
  const written = [...writers].toSorted(([a], [b]) => a - b).map(([, epoch]) => epoch)
  check(
    written.every((epoch, i) => i === 0 || epoch >= written[i - 1]!),
    `an old owner wrote after a new one: ${written.join()}`,
  )

  // bodies
  const pivoted = entries.some((entry) => entry.type === 'done' && entry.path === 'charge')
  check(!pivoted || starts.every((start) => !start.undo), 'something is undone after the pivot')
  for (const path of STEPS)
    for (const undo of [false, true]) {
      const mine = starts.filter((start) => start.path === path && start.undo === undo)
      const what = undo ? `compensation of ${path}` : path
      const open = undo ? 'compensating' : 'running'
      const windows = claims.filter((claim) => claim.expired && factsOf(claim.journal).get(path) === open).length
      const most = Math.max(1, failures(scenario, path, undo)) + windows
      check(mine.length <= most, `${what} was started ${mine.length} times, with ${windows} crashes in its window`)
      for (const { fence } of mine) {
        const known = factsOf(claims.find((claim) => claim.epoch === fence)?.journal ?? []).get(path)
        const before = undo ? [undefined, 'running', 'done', 'failed', 'compensating'] : [undefined, 'running']
        check(before.includes(known), `${what} was started by epoch ${fence}, though it was ${known}`)
      }
      // started by this process, or by one that died before it could tell
      const begun = (p: string): boolean => starts.some((s) => s.path === p && !s.undo) || cutOff(p)
      if (undo) check(mine.length === 0 || begun(path), `${what} was started, but not ${path}`)
    }

  // effects
  const fences = effects.map((effect) => effect.fence)
  check(
    fences.every((fence, i) => i === 0 || fence >= fences[i - 1]!),
    `fences go back: ${fences.join()}`,
  )
  const refused = news.flatMap((n) => (n.type === 'refused' && n.id === saga.id ? [n.fence] : []))
  check(paused || refused.length === 0, `epochs ${refused.join()} were refused`)
  check(
    refused.every((fence) => fence < saga.epoch),
    'the last owner was refused',
  )
  for (const path of STEPS) {
    const of = (undo: boolean): number[] =>
      [...effects.keys()].filter((i) => effects[i]!.path === path && effects[i]!.undo === undo)
    const [runs, undos] = [of(false), of(true)]
    const keys = new Set([...runs, ...undos].map((i) => `${effects[i]!.undo} ${effects[i]!.key}`))
    check(keys.size <= 2 && new Set(runs.map((i) => effects[i]!.key)).size <= 1, `${path} had several keys`)
    if (path === 'ledger' && ledger) continue
    if (facts.get(path) === 'done') check(runs.length > 0, `${path} is recorded as done, but has no effect`)
    if (expected === 'compensated' && UNDOABLE.includes(path) && runs.length > 0)
      check((undos.at(-1) ?? -1) > runs.at(-1)!, `${path} had its effect, and it was not undone`)
    if (facts.get(path) === 'compensated') check(undos.length > 0, `${path} is recorded as undone, but was not`)
    if (expected === 'completed') check(runs.length > 0 && undos.length === 0, `${path} has not run, or was undone`)
  }
  if (ledger) {
    const booked = (amount: number): number => ledger.filter((one) => one === amount).length
    const recorded = (type: string): number =>
      entries.filter((entry) => entry.type === type && 'path' in entry && entry.path === 'ledger').length
    check(
      booked(1) === recorded('done'),
      `the transaction is booked ${booked(1)} and recorded ${recorded('done')} times`,
    )
    check(booked(-1) === recorded('compensated'), `its undoing is booked ${booked(-1)} times`)
  }

  // the later is undone first
  const undone = effects.filter((effect) => effect.undo).map((effect) => effect.path)
  for (const [i, path] of undone.entries())
    for (const later of undone.slice(i + 1))
      check(!isBefore(path, later), `${path} was undone before ${later}: ${undone.join()}`)
  return wrong
}

/** Whether `path` stands before `other` in one sequence. */
function isBefore(path: string, other: string): boolean {
  const [p, q] = [path.split('/'), other.split('/')]
  if (p[0] === 'p' && q[0] === 'p' && p[1] !== q[1]) return false // branches go side by side
  return STEPS.indexOf(path as never) < STEPS.indexOf(other as never)
}
