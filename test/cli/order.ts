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
