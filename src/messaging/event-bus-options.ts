import { checkFunction, checkInteger, checkObject, checkOneOf, checkString } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { systemRandom, type Random } from '../kernel/random.js'
import type { StandardSchema } from '../kernel/schema.js'
import type { SubscribeOptions } from './event-bus.js'
import { Outbound } from './outbound.js'

/** What every event bus can be told, wherever it keeps its messages. */
export interface EventBusOptions<Messages extends object = Record<string, unknown>> {
  /**
   * Most messages that one group may hold: waiting, in a handler, waiting to be tried again, and dead letters. `publish` is
   * refused beyond it. Integer ≥ 1. @defaultValue 100_000
   */
  readonly maxBacklog?: number | undefined
  /**
   * What `publish` does with a message that no group takes: `'accept'` forgets it, as nobody asked for it; `'reject'`
   * throws an UnroutedError. @defaultValue 'accept'
   */
  readonly unrouted?: 'accept' | 'reject' | undefined
  /** A validator per type, for what is published. What it gives back is what is sent. @defaultValue none: nothing is checked */
  readonly schema?: { readonly [T in keyof Messages]?: StandardSchema<Messages[T]> | undefined } | undefined
  /** For durations in this process; what processes share goes by the server's clock. @defaultValue the process clock */
  readonly clock?: Clock | undefined
  /** Spreads the default backoff, and is handed to yours. @defaultValue the process's generator */
  readonly random?: Random | undefined
}

/** The common options as a bus uses them. @throws InvalidOptionError when one is out of its range. @internal */
export function commonOptions<Messages extends object>(options: EventBusOptions<Messages>) {
  const { maxBacklog = 100_000, unrouted = 'accept', schema = {} } = checkObject('options', options)
  const { clock = systemClock, random = systemRandom } = options
  return {
    maxBacklog: checkInteger('maxBacklog', maxBacklog, 1),
    rejectUnrouted: checkOneOf('unrouted', unrouted, ['accept', 'reject']) === 'reject',
    outbound: new Outbound(schema, clock),
    clock,
    random: checkFunction('random', random),
  }
}

/** The group that a subscription is for, and the order that it wants. @throws InvalidOptionError when one is none. @internal */
export function groupOf(options: Pick<SubscribeOptions, 'group' | 'order'>) {
  const { group, order = 'key' } = checkObject('options', options)
  return { name: checkString('group', group), order: checkOneOf('order', order, ['key', 'none']) }
}
