import { Bench, type Defaults, type Harness, type Law } from './event-bus/bench.js'
import { closeLaws } from './event-bus/close.js'
import { orderLaws } from './event-bus/order.js'
import { publishLaws } from './event-bus/publish.js'
import { retryLaws } from './event-bus/retry.js'
import { lawsFor } from './laws.js'

export type { Defaults, Harness } from './event-bus/bench.js'

/**
 * The laws of `EventBus`. They assume only what holds for any delay.
 * @param defaults set on every subscription whose law does not care
 * @param gaps law → why this adapter can't keep it; such a test must fail
 */
export function eventBusContract(
  adapter: string,
  open: () => Promise<Harness>,
  defaults: Defaults = {},
  gaps: Record<string, string> = {},
): void {
  const stated = lawsFor(adapter, open, gaps)
  const law: Law = (name, check) => stated(name, (harness) => check(new Bench(harness, defaults)))
  publishLaws(law)
  orderLaws(law)
  retryLaws(law)
  closeLaws(law)
}
