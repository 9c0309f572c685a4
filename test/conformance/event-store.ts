import { appendLaws } from './event-store/append.js'
import type { EventStoreHarness, Law } from './event-store/bench.js'
import { conditionLaws } from './event-store/conditions.js'
import { endLaws } from './event-store/end.js'
import { expectationLaws } from './event-store/expectations.js'
import { readLaws } from './event-store/read.js'
import { lawsFor } from './laws.js'

export type { EventStoreHarness } from './event-store/bench.js'

/** @param gaps law → why this adapter can't keep it; such a test must fail. */
export function eventStoreContract(
  adapter: string,
  open: () => Promise<EventStoreHarness>,
  gaps: Record<string, string> = {},
): void {
  const law: Law = lawsFor(adapter, open, gaps)
  appendLaws(law)
  expectationLaws(law)
  readLaws(law)
  conditionLaws(law)
  endLaws(law)
}
