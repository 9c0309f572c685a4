import { expect, test } from 'vitest'
import { decide, type Event, type EventStore, type Query } from '../../src/event-sourcing/index.js'

export type Seat =
  | Event<'Defined', { course: string; seats: number }>
  | Event<'Subscribed', { course: string; student: string }>
interface State {
  readonly seats: number
  readonly taken: number
  readonly mine: number
}
const initial: State = { seats: 0, taken: 0, mine: 0 }
const subscribed = (course: string, student: string): Seat => ({
  type: 'Subscribed',
  data: { course, student },
  tags: [`course:${course}`, `student:${student}`],
})
export const defined = (course: string, seats: number): Seat => ({
  type: 'Defined',
  data: { course, seats },
  tags: [`course:${course}`],
})

/** A student takes a seat: no more than the course has, no more than two courses a student. */
export function subscribe(store: EventStore<Seat>, course: string, student: string, options = {}) {
  const query: Query = {
    items: [{ tags: [`course:${course}`] }, { types: ['Subscribed'], tags: [`student:${student}`] }],
  }
  const evolve = (s: State, e: Seat): State =>
    e.type === 'Defined'
      ? { ...s, seats: e.data.seats }
      : {
          ...s,
          taken: s.taken + (e.data.course === course ? 1 : 0),
          mine: s.mine + (e.data.student === student ? 1 : 0),
        }
  return decide(
    store,
    query,
    { initial, evolve },
    async (s) => {
      if (s.taken >= s.seats) throw new Error('full')
      if (s.mine >= 2) throw new Error('two courses already')
      return [subscribed(course, student)]
    },
    options,
  )
}

/** @param gap why this adapter can't keep it; then the test must fail */
export function decisionsHold(adapter: string, open: () => Promise<EventStore<Seat>>, gap?: string): void {
  const check = gap === undefined ? test : test.fails
  check(`${adapter}: decisions at the same time never break a rule that spans streams`, async () => {
    const store = await open()
    for (const course of ['a', 'b', 'c']) await store.append(`course-${course}`, [defined(course, 10)])
    const wishes = Array.from({ length: 60 }, (_, i) => ['abc'[i % 3] as string, `s${i % 20}`] as const)
    const outcomes = await Promise.allSettled(wishes.map(([c, s]) => subscribe(store, c, s, { retries: 100 })))
    for (const o of outcomes)
      if (o.status === 'rejected') expect((o.reason as Error).message).toMatch(/full|two courses/)
    const by = { course: new Map<string, number>(), student: new Map<string, number>() }
    for await (const e of store.readAll()) {
      if (e.type !== 'Subscribed') continue
      by.course.set(e.data.course, (by.course.get(e.data.course) ?? 0) + 1)
      by.student.set(e.data.student, (by.student.get(e.data.student) ?? 0) + 1)
    }
    expect([...by.course.values()]).toEqual([10, 10, 10])
    expect(Math.max(...by.student.values())).toBe(2)
    expect(outcomes.filter((o) => o.status === 'fulfilled')).toHaveLength(30)
  })
}
