import { MemorySagaStore } from 'holdfast/saga'
import { sequential, type Candidate, type Comparison } from './harness.js'
import { order, runOn, STEPS } from './saga-orders.js'

const FLOOR = 'a Map and an array of records (floor)'
const OURS = 'holdfast'
const STEPS_PER_SECOND = 200_000

/** The journal that a saga needs, without rules, leases, and whoever waits. */
function bare(): Candidate['batch'] {
  const sagas = new Map<number, { epoch: number; records: string[] }>()
  let ids = 0
  return sequential(async () => {
    const id = ids++
    sagas.set(id, { epoch: 1, records: [JSON.stringify(order)] })
    for (let step = 0; step < STEPS; step++) {
      const result = await Promise.resolve({ step })
      const own = sagas.get(id)
      if (own?.epoch === 1) own.records.push(JSON.stringify({ at: Date.now(), step, result }))
    }
    sagas.delete(id)
  })
}

/** Sagas of three steps, from `run` to `settled`. */
export function saga(): readonly Comparison[] {
  const of = (callers: number): Comparison => ({
    title: `Saga in memory, three steps, ${callers} at once`,
    callers,
    candidates: [
      { name: FLOOR, batch: bare() },
      { name: OURS, batch: sequential(runOn(new MemorySagaStore({ retainMs: 1_000 }))) },
    ],
    targets: [{ candidate: OURS, ns: (STEPS * 1e9) / STEPS_PER_SECOND }],
  })
  return [of(1), of(64)]
}
