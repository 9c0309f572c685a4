/**
 * What a saga must do, told a second time in the simplest way: the whole course as if nothing ever stopped it, cut off at
 * the moment at which it turns back, and unwound from there. Knows nothing of journals, inputs or transitions.
 */
export type Outcome = 'ok' | 'fail' | 'unsure'

export interface StepSpec {
  readonly kind: 'step'
  /** How each attempt ends; the last one for good. */
  readonly script: readonly Outcome[]
  readonly ms: number
  readonly backoffMs: number
  readonly undo: 'none' | 'ok' | 'fail'
  readonly undoMs: number
}
export interface WaitSpec {
  readonly kind: 'wait'
  /** When its signal is sent; `null`: never. */
  readonly sentAt: number | null
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
export interface Course {
  readonly status: string
  readonly log: Log
  /** Two things happen at the moment it turns back, so that the order between them is anybody's guess. */
  readonly tie: boolean
}

interface Seen {
  readonly path: string
  readonly spec: Exclude<Spec, ParallelSpec>
  readonly attempts: { readonly start: number; readonly end: number; readonly outcome: Outcome }[]
}

/** Names differ by depth, for a branch may not use one that stands in sight. */
export const nameOf = (at: string, i: number): string => `n${at === '' ? 0 : at.split('/').length / 2}x${i}`
const under = (at: string, name: string): string => (at === '' ? name : `${at}/${name}`)

export function reference({ before, pivot, after, stop, onCompensationFailure }: SagaSpec): Course {
  const seen = new Map<string, Seen>()
  const times: number[] = []
  const log: Log = []

  /** @returns when it is done; `Infinity`: never */
  function walk(specs: readonly Spec[], at: string, from: number, offset = 0): number {
    let now = from
    for (const [i, spec] of specs.entries()) {
      if (now === Infinity) return now
      now = visit(spec, under(at, nameOf(at, i + offset)), now)
    }
    return now
  }

  function visit(spec: Spec, path: string, from: number): number {
    if (spec.kind === 'parallel') {
      const free = Array.from({ length: spec.limit }, () => from)
      const ends = spec.branches.map((branch, i) => {
        free.sort((a, b) => a - b)
        const start = free.shift()!
        const end = start === Infinity ? Infinity : walk(branch, `${path}/b${i}`, start)
        free.push(end)
        return end
      })
      return Math.max(...ends)
    }
    const one: Seen = { path, spec, attempts: [] }
    seen.set(path, one)
    const attempt = (start: number, end: number, outcome: Outcome): number => {
      one.attempts.push({ start, end, outcome })
      times.push(start, end)
      return end
    }
    if (spec.kind === 'sleep') return attempt(from, from + spec.ms, 'ok')
    if (spec.kind === 'wait') {
      const limit = from + spec.timeoutMs
      if (spec.sentAt !== null && spec.sentAt === limit) times.push(limit, limit)
      const comes = spec.sentAt !== null && spec.sentAt < limit
      const end = attempt(from, comes ? Math.max(from, spec.sentAt) : limit, comes ? 'ok' : 'fail')
      return comes ? end : Infinity
    }
    let now = from
    for (const outcome of spec.script) {
      now = attempt(now, now + spec.ms, outcome)
      if (outcome === 'ok') return now
      now += spec.backoffMs
    }
    return Infinity
  }

  const failedAt = (one: Seen): number => {
    const last = one.attempts.at(-1)!
    return last.outcome === 'ok' ? Infinity : last.end
  }
  const runs = (until: number): void => {
    for (const { path, spec, attempts } of seen.values())
      if (spec.kind === 'step') for (const { start } of attempts) if (start < until) log.push(['run', path, start])
  }
  const outcomeAt = (one: Seen | undefined, turn: number): 'done' | 'unknown' | 'nothing' => {
    const begun = one?.attempts.filter((a) => a.start < turn) ?? []
    if (begun.some((a) => a.end <= turn && a.outcome === 'ok')) return 'done'
    return begun.some((a) => a.end > turn || a.outcome === 'unsure') ? 'unknown' : 'nothing'
  }

  /** @returns when it is unwound, and whether something is stuck */
  function unwind(specs: readonly Spec[], at: string, from: number, turn: number): [number, boolean] {
    let now = from
    let stuck = false
    for (const [i, spec] of [...specs.entries()].toReversed()) {
      const path = under(at, nameOf(at, i))
      let bad = false
      if (spec.kind === 'parallel') {
        const all = spec.branches.map((branch, b) => unwind(branch, `${path}/b${b}`, now, turn))
        now = Math.max(...all.map(([end]) => end))
        bad = all.some(([, s]) => s)
      } else if (spec.kind === 'step' && spec.undo !== 'none') {
        const outcome = outcomeAt(seen.get(path), turn)
        if (outcome !== 'nothing') {
          log.push([`undo ${outcome}`, path, now])
          now += spec.undoMs
          bad = spec.undo === 'fail'
        }
      }
      if (bad && onCompensationFailure === 'park') return [now, true]
      stuck ||= bad
    }
    return [now, stuck]
  }
  const back = (turn: number, tie: boolean): Course => {
    const [, stuck] = unwind(before, '', turn, turn)
    return { status: stuck ? 'parked' : 'compensated', log, tie }
  }

  const ready = walk(before, '', 0)
  const stopAt = stop?.at ?? Infinity
  const turn = Math.min(stopAt, ...[...seen.values()].map(failedAt))
  if (turn < ready || (turn === ready && turn < Infinity)) {
    runs(turn)
    const there = times.filter((t) => t === turn).length
    return back(turn, there > (turn === stopAt ? 0 : 1))
  }
  let now = ready
  let tie = times.includes(stopAt)
  if (pivot) {
    runs(Infinity)
    log.push(['run', 'pivot', ready])
    now += pivot.ms
    tie ||= stopAt === ready || stopAt === now
    if (pivot.outcome === 'fail') return back(now, tie)
    // nobody knows whether it happened: only a person may turn it back then
    if (pivot.outcome === 'unsure' && stop?.kind === 'cancel' && stopAt > now) return back(stopAt, tie)
    if (pivot.outcome === 'unsure') return { status: 'parked', log, tie }
    seen.clear()
    now = walk(after, '', now, before.length + 1)
  }
  runs(Infinity)
  return { status: now === Infinity ? 'parked' : 'completed', log, tie }
}
