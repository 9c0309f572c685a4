import { Aggregate, type Event } from '../../src/event-sourcing/index.js'

type OrderEvent = Event<'Placed', { cents: number }> | Event<'Paid', { by: string }>

export class Order extends Aggregate<OrderEvent> {
  state = 'new'
  total = { cents: 0 }

  protected apply(event: OrderEvent): void {
    this.state = event.type
    if (event.type === 'Placed') this.total = { cents: event.data.cents }
  }
}

export const order = {
  initial: () => ({ count: 0 }),
  decide: () => [],
  evolve: ({ count }: { count: number }) => ({ count: count + 1 }),
}

/** A state that is no tree, and has names that are no words. */
export const knot = {
  initial: () => ({}),
  decide: () => [],
  evolve: () => {
    const state: Record<string, unknown> = { all: new Map([['a', new Set([1])]]), 'a\n\u009b': { b: 1 } }
    return Object.assign(state, { self: state })
  },
}

/** More than a call has room for arguments. */
export const wide = { initial: () => ({}), decide: () => [], evolve: () => Array.from({ length: 150_000 }, () => 0) }
