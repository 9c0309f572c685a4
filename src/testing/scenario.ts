import { isDeepStrictEqual, inspect } from 'node:util'
import type { Decider } from '../event-sourcing/decider.js'
import type { Event } from '../event-sourcing/event.js'
import { modelOf, type AggregateClass, type Command, type Decided } from '../event-sourcing/replay.js'

/** What came before. */
export interface Given<C, E extends Event, S> {
  /** Events that happened, in order; none for a fresh start. */
  given(...events: E[]): When<C, E, S>
}

/** What is done. */
export interface When<C, E extends Event, S> {
  /** The command that is decided on the state after these events. */
  when(command: C): Expectation<E, S>
}

/** What is expected of a command. Rejects with an error that shows both sides when it is not so. */
export interface Expectation<E extends Event, S> {
  /** The command leads to exactly these events, in order. Deeply and strictly equal. */
  then(...events: E[]): Promise<void>
  /** The command leads to no event. */
  nothing(): Promise<void>
  /** The command throws an error of this class whose message contains, or matches, `message`. */
  throws(type: abstract new (...args: never[]) => Error, message?: string | RegExp): Promise<void>
  /** Calls `check` with the state after the command's events; what it throws comes out. */
  state(check: (state: S) => void): Promise<void>
}

/**
 * Tests a decider without a store: `await scenario(decider).given(placed).when({ kind: 'pay' }).then(paid)`. Or an aggregate class, whose
 * commands are functions: `await scenario(Order).given(placed).when((order) => order.pay()).then(paid)`.
 */
export function scenario<C, E extends Event, S>(decider: Decider<C, E, S>, id?: string): Given<C, E, S>
export function scenario<S, E extends Event>(
  aggregate: AggregateClass<S, E>,
  id?: string,
): Given<(aggregate: S) => Decided<E> | Promise<Decided<E>>, E, S>
export function scenario<C, E extends Event, S>(
  source: Decider<C, E, S> | AggregateClass<S, E>,
  id: string = 'id',
): Given<Command<S, C, E>, E, S> {
  const model = modelOf<S, C, E>(source)
  const after = (state: S, events: readonly E[]): S =>
    events.reduce((s, event, i) => model.replay(s, event, i + 1), state)
  return {
    given: (...past) => ({
      when(command) {
        const run = async (): Promise<{ before: S; events: readonly E[] }> => {
          const before = after(model.initial(id), past)
          return { before, events: await model.decide(before, command) }
        }
        const expectEvents = async (expected: readonly E[]): Promise<void> => {
          const { events } = await run()
          if (!isDeepStrictEqual(events, expected)) fail('other events than expected', events, expected)
        }
        return {
          // oxlint-disable-next-line unicorn/no-thenable -- given, when, then is how it reads; see below for who forgets the last
          async then(...expected) {
            const [, reject] = expected as unknown[]
            if (typeof reject === 'function')
              return void reject(new Error('nothing is expected: add then, throws or state'))
            await expectEvents(expected)
          },
          nothing: () => expectEvents([]),
          async throws(type, message) {
            const error = await run().then(
              ({ events }) => fail('no error', events, type.name),
              (thrown: unknown) => thrown,
            )
            if (!(error instanceof type)) fail('another error than expected', error, type.name)
            const said = error.message
            const fits =
              message === undefined ||
              (typeof message === 'string' ? said.includes(message) : said.search(message) >= 0)
            if (!fits) fail('another message than expected', said, message)
          },
          async state(check) {
            const { before, events } = await run()
            check(model.mutable ? before : after(before, events)) // what an aggregate raised is in it
          },
        }
      },
    }),
  }
}

function fail(what: string, actual: unknown, expected: unknown): never {
  const show = (value: unknown): string => inspect(value, { depth: 10 })
  throw new Error(`${what}\nexpected: ${show(expected)}\nactual:   ${show(actual)}`)
}
