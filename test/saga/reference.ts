/**
 * What a saga must do, told a second time in the simplest way: a diary of moments. At each moment that brings news, all that is
 * known is looked at once, in the order of the definition. While a transaction is under way news waits for its end. Knows nothing
 * of journals, inputs, leases or transitions.
 */
export type Outcome = 'ok' | 'fail' | 'unsure'

export interface StepSpec {
  readonly kind: 'step' | 'transaction'
  /** How each attempt ends; the last one for good. */
  readonly script: readonly Outcome[]
  readonly ms: number
  readonly backoffMs: number
  readonly undo: 'none' | 'ok' | 'fail'
  readonly undoMs: number
}
export interface WaitSpec {
  readonly kind: 'wait'
  /** When its signal is sent; `null`: never. Or in the millisecond in which its time is up: just before that, or just after. */
  readonly sentAt: number | null | 'just in time' | 'just too late'
  readonly timeoutMs: number
}
export interface SleepSpec {
  readonly kind: 'sleep'
  readonly ms: number
}
export interface ParallelSpec {
  readonly kind: 'parallel'
  readonly branches: readonly (readonly Spec[])[]
  readonly limit: number
}
export type Spec = StepSpec | WaitSpec | SleepSpec | ParallelSpec

export interface SagaSpec {
  readonly before: readonly Spec[]
  readonly pivot: { readonly outcome: Outcome; readonly ms: number } | null
  readonly after: readonly Spec[]
  readonly stop: { readonly kind: 'deadline' | 'cancel'; readonly at: number } | null
  readonly onCompensationFailure: 'park' | 'continue'
}

export type Log = [what: 'run' | 'undo done' | 'undo unknown', path: string, at: number][]
/** A signal to be sent: of which wait, when, and whether after all else that happens in that millisecond. */
export type Sending = [path: string, at: number, last: boolean]
export interface Course {
  readonly status: string
  readonly log: Log
  readonly signals: readonly Sending[]
  /** Two things happen at one moment, so that the order between them is anybody's guess, and it matters. */
  readonly tie: boolean
}

/** Names differ by depth, for a branch may not use one that stands in sight. */
export const nameOf = (at: string, i: number): string => `n${at === '' ? 0 : at.split('/').length / 2}x${i}`
const under = (at: string, name: string): string => (at === '' ? name : `${at}/${name}`)

/** A node that has begun. */
interface Begun {
  readonly path: string
  readonly spec: Exclude<Spec, ParallelSpec>
  /** `due`: its body is to be started at `news`; `live`: its body ends then; `paused`: its pause or wait does. */
  state: 'due' | 'live' | 'paused' | 'ok' | 'dead'
  news: number
  attempts: number
  maybe: boolean
  /** Of a wait: when its signal comes, and whether it is the last thing of that millisecond. */
  sent: number
  last: boolean
}

/** A node that is undone. */
interface Undoing {
  readonly one: Begun
  readonly outcome: 'done' | 'unknown'
  state: 'due' | 'live' | 'ok' | 'stuck'
  news: number
}

export function reference({ before, pivot, after, stop, onCompensationFailure }: SagaSpec): Course {
  const log: Log = []
  const signals: Sending[] = []
  const begun = new Map<string, Begun>()
  const stopAt = stop?.at ?? Infinity
  let tie = false
  const course = (status: string): Course => ({ status, log, signals, tie })

  function begin(path: string, spec: Begun['spec'], now: number): Begun {
    const one: Begun = {
      ...{ path, spec, state: 'due', news: now, attempts: 0, maybe: false, sent: Infinity, last: false },
    }
    begun.set(path, one)
    if (spec.kind === 'sleep') Object.assign(one, { state: 'paused', news: now + spec.ms })
    if (spec.kind === 'wait') {
      const until = now + spec.timeoutMs
      one.sent = typeof spec.sentAt === 'number' ? spec.sentAt : spec.sentAt === null ? Infinity : until
      one.last = spec.sentAt === 'just too late'
      if (one.sent < Infinity) signals.push([path, one.sent, one.last])
      Object.assign(one, { state: 'paused', news: Math.max(now, Math.min(until, one.sent)) })
      // it comes in the millisecond in which its wait begins, or its time is up by chance
      if (typeof spec.sentAt === 'number' && (one.sent === now || one.sent === until)) tie = true
      hear(one, now)
    }
    if (spec.kind === 'sleep') hear(one, now)
    return one
  }

  /** Takes in what there is to know of a node at `now`. */
  function hear(one: Begun, now: number): void {
    const { spec } = one
    if (one.news > now || (one.state !== 'live' && one.state !== 'paused')) return
    if (spec.kind === 'sleep') one.state = 'ok'
    else if (spec.kind === 'wait') one.state = one.sent < now || (one.sent === now && !one.last) ? 'ok' : 'dead'
    else {
      const outcome = spec.script[one.attempts - 1]!
      one.state = outcome === 'ok' ? 'ok' : one.attempts < spec.script.length ? 'due' : 'dead'
      one.maybe ||= outcome === 'unsure' && spec.kind === 'step'
      one.news = one.state === 'due' ? now + spec.backoffMs : Infinity
    }
  }

  /** Begins what may begin. @returns whether all of it is done */
  function advance(specs: readonly Spec[], at: string, now: number, offset = 0): boolean {
    for (const [i, spec] of specs.entries()) {
      const path = under(at, nameOf(at, i + offset))
      if (spec.kind !== 'parallel') {
        if ((begun.get(path) ?? begin(path, spec, now)).state !== 'ok') return false
        continue
      }
      let free = spec.limit
      let done = true
      for (const [b, branch] of spec.branches.entries()) {
        const inside = `${path}/b${b}`
        const isUnderWay = [...begun.keys()].some((known) => known.startsWith(`${inside}/`))
        if ((free > 0 || isUnderWay) && advance(branch, inside, now)) continue
        done = false
        if (free > 0 || isUnderWay) free--
      }
      if (!done) return false
    }
    return true
  }

  /** @returns when all is done or, before the pivot, when it turns back. `Infinity`: it is stuck */
  function forward(specs: readonly Spec[], from: number, offset: number): { at: number; turned: boolean } {
    const mayTurn = offset === 0
    let lock: Begun | undefined
    for (let now = from, many = false; ;) {
      for (const one of begun.values()) hear(one, now)
      const ended = lock
      if (lock && (lock.state !== 'live' || now >= stopAt)) lock = undefined
      if (mayTurn && (now >= stopAt || [...begun.values()].some((one) => one.state === 'dead'))) {
        if (ended && ended.state === 'live') ended.state = 'due' // rolled back
        tie ||= many
        return { at: now, turned: true }
      }
      const done = advance(specs, '', now, offset)
      // a wait that finds its time up at once
      if (mayTurn && [...begun.values()].some((one) => one.state === 'dead')) return { at: now, turned: true }
      if (done) {
        tie ||= many && stopAt === now
        return { at: now, turned: false }
      }
      let hasBegun = false
      for (const one of begun.values()) {
        const { spec } = one
        if (one.state !== 'due' || one.news > now || !('script' in spec)) continue
        if (spec.kind === 'transaction') {
          if (lock) continue
          lock = one
          hasBegun = true
        }
        one.state = 'live'
        one.attempts++
        one.news = now + spec.ms
        log.push(['run', one.path, now])
      }
      tie ||= many && (hasBegun || ended !== undefined)
      const waits = [...begun.values()].filter((one) => one.state !== 'ok' && one.state !== 'dead' && one.news > now)
      const stops = mayTurn ? [stopAt] : []
      const next = Math.min(...stops, ...(lock ? [lock] : waits).map((one) => one.news))
      if (next === Infinity) return { at: next, turned: false }
      many = [...stops, ...waits.map((one) => one.news)].filter((at) => at === next).length > 1
      now = next
    }
  }

  function back(turn: number): Course {
    const undone = new Map<string, Undoing>()
    const stopped = [...begun.values()].filter((one) => one.state === 'live')
    const silent = new Set(stopped) // until their bodies have said how they ended
    let lock: Undoing | undefined

    const unwind = (specs: readonly Spec[], at: string): 'done' | 'active' | 'blocked' => {
      let blocked = false
      for (const [i, spec] of [...specs.entries()].toReversed()) {
        const path = under(at, nameOf(at, i))
        const all =
          spec.kind === 'parallel'
            ? spec.branches.map((branch, b) => unwind(branch, `${path}/b${b}`))
            : [undo(begun.get(path))]
        if (all.includes('active')) return 'active'
        if (!all.includes('blocked')) continue
        if (onCompensationFailure === 'park') return 'blocked'
        blocked = true
      }
      return blocked ? 'blocked' : 'done'
    }
    const undo = (one: Begun | undefined): 'done' | 'active' | 'blocked' => {
      if (!one || !('undo' in one.spec)) return 'done'
      if (silent.has(one)) return 'active'
      const known = undone.get(one.path)
      if (known) return known.state === 'ok' ? 'done' : known.state === 'stuck' ? 'blocked' : 'active'
      const outcome = one.state === 'ok' ? 'done' : one.maybe || one.state === 'live' ? 'unknown' : undefined
      if (one.spec.undo === 'none' || !outcome) return 'done'
      undone.set(one.path, { one, outcome, state: 'due', news: Infinity })
      return 'active'
    }

    for (let now = turn, many = false, round = 0; ; round++) {
      for (const each of undone.values())
        if (each.state === 'live' && each.news <= now)
          each.state = (each.one.spec as StepSpec).undo === 'fail' ? 'stuck' : 'ok'
      const ended = lock
      if (lock?.state !== 'live') lock = undefined
      const progress = unwind(before, '')
      if (progress !== 'active') return course(progress === 'blocked' ? 'parked' : 'compensated')
      let hasBegun = false
      for (const { path } of begun.values()) {
        const each = undone.get(path)
        if (each?.state !== 'due') continue
        const spec = each.one.spec as StepSpec
        if (spec.kind === 'transaction') {
          if (lock) continue
          lock = each
          hasBegun = true
        }
        each.state = 'live'
        each.news = now + spec.undoMs
        log.push([`undo ${each.outcome}`, path, now])
      }
      tie ||= many && (hasBegun || ended !== undefined)
      tie ||= now === turn && round > 0 && hasBegun && stopped.length > 1 // they report one by one
      const hadSilent = silent.size > 0
      if (!lock || round > 0) silent.clear()
      if (hadSilent && !lock && silent.size === 0) {
        many = false
        continue // what was stopped has said so, in the same millisecond
      }
      const live = [...undone.values()].filter((each) => each.state === 'live')
      const next = lock ? lock.news : Math.min(...live.map((each) => each.news))
      silent.clear()
      many = live.filter((each) => each.news === next).length > 1
      now = next
    }
  }

  const way = forward(before, 0, 0)
  if (way.turned) return back(way.at)
  if (!pivot) return course(way.at === Infinity ? 'parked' : 'completed')
  log.push(['run', 'pivot', way.at])
  const decided = way.at + pivot.ms
  tie ||= stopAt === way.at || stopAt === decided
  if (pivot.outcome === 'fail') return back(decided)
  // nobody knows whether it happened: only a person may turn it back then
  if (pivot.outcome === 'unsure') return stop?.kind === 'cancel' && stopAt > decided ? back(stopAt) : course('parked')
  begun.clear()
  const { at } = forward(after, decided, before.length + 1)
  return course(at === Infinity ? 'parked' : 'completed')
}
