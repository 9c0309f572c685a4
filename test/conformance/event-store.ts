import { onTestFinished, test } from 'vitest'
import { appendLaws } from './event-store/append.js'
import type { EventStoreHarness, Law } from './event-store/bench.js'
import { conditionLaws } from './event-store/conditions.js'
import { endLaws } from './event-store/end.js'
import { expectationLaws } from './event-store/expectations.js'
import { readLaws } from './event-store/read.js'

export type { EventStoreHarness } from './event-store/bench.js'

/** @param gaps law → why this adapter can't keep it; such a test must fail. */
export function eventStoreContract(
  adapter: string,
  open: () => Promise<EventStoreHarness>,
  gaps: Record<string, string> = {},
): void {
  const law: Law = (name, check) =>
    (name in gaps ? test.fails : test)(`${adapter}: ${name}`, async () => {
      const harness = await open()
      onTestFinished(() => harness.close())
      await check(harness)
    })
  appendLaws(law)
  expectationLaws(law)
  readLaws(law)
  conditionLaws(law)
  endLaws(law)
}
