import { checkInteger, checkMethods, checkNumber, checkObject, invalid } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import type { Unsubscribe } from '../kernel/emitter.js'
import type { Policy } from '../kernel/policy.js'
import { Gate, type GateOptions } from './gate.js'

/** How many at once. */
export interface BulkheadOptions extends QueueOptions {
  /** Calls that may run at once. Integer ≥ 1. */
  readonly maxConcurrent: number
}

/** Who may wait for a place. */
export interface QueueOptions {
  /** Calls that may wait, beyond those that run; others are refused at once. Integer ≥ 0, or `Infinity`. @defaultValue 0 */
  readonly maxQueued?: number | undefined
  /** A call that has waited this many milliseconds is refused. > 0. @defaultValue it waits as long as it takes */
  readonly queueTimeoutMs?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/** What a bulkhead tells those who listen. */
export interface BulkheadEvents {
  /** A call was refused and did not run. `waitedMs` is 0 when it found everything full. */
  refused: { readonly running: number; readonly queued: number; readonly waitedMs: number }
  /** A call begins to wait. `queued` counts it. */
  queued: { readonly running: number; readonly queued: number }
}

/** A limit on the calls that run at once. */
export interface Bulkhead extends Policy {
  /** Calls that run now. Integer ≥ 0. */
  readonly running: number
  /** Calls that wait now. Integer ≥ 0. */
  readonly queued: number
  /** Calls `listener` at each event `name`. What it throws is reported, and changes nothing. @returns stops it */
  on<K extends keyof BulkheadEvents>(name: K, listener: (event: BulkheadEvents[K]) => unknown): Unsubscribe
}

/**
 * Lets so many calls run at once; others wait their turn, first come, first served, or are refused with
 * `BulkheadFullError`. A place that comes free is handed to the call that has waited longest at that very moment: nobody
 * overtakes, in no order of events. A call that is aborted while it waits leaves at once. A place always comes back.
 * Source: Nygard, *Release It!*, 2nd ed., "Bulkheads".
 * @throws InvalidOptionError when an option is out of its range.
 */
export function bulkhead(options: BulkheadOptions): Bulkhead {
  const { maxConcurrent } = checkObject('options', options)
  return new Gate(checkInteger('maxConcurrent', maxConcurrent, 1), queueOf(options))
}

/** @throws InvalidOptionError when an option is out of its range. */
export function queueOf({ maxQueued = 0, queueTimeoutMs = Infinity, clock = systemClock }: QueueOptions): GateOptions {
  if (maxQueued !== Infinity) checkInteger('maxQueued', maxQueued, 0)
  if (checkNumber('queueTimeoutMs', queueTimeoutMs, 0) === 0) invalid('queueTimeoutMs', 'a number > 0', queueTimeoutMs)
  return { maxQueued, queueTimeoutMs, clock: checkMethods('clock', clock, ['now', 'setTimer']) }
}
