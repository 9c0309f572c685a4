import { saga, SagaOrchestrator, type SagaStore } from 'holdfast/saga'

/** What a saga of the benches is begun with. */
export interface Order {
  readonly orderId: string
  readonly cents: number
}
export const order: Order = { orderId: 'order-1', cents: 1_999 }

/** Three steps that can be undone and do nothing: what is measured is what goes on around them. */
export const placeOrder = saga<Order>('place-order', { version: 1 })
  .step('reserve', { run: async () => ({ reservation: 'r-1' }), compensate: async () => {} })
  .step('charge', { run: async () => ({ charge: 'c-1' }), compensate: async () => {} })
  .step('ship', { run: async () => ({ parcel: 'p-1' }) })
  .build()
export const STEPS = 3

let ids = 0
export const freshId = (): string => `saga-${ids++}`

/** Begins a saga and waits for its end. */
export type RunOne = () => Promise<unknown>

export function runOn(store: SagaStore): RunOne {
  const orchestrator = new SagaOrchestrator({ store, sagas: [placeOrder], concurrency: 1_000 })
  orchestrator.start()
  return async () => {
    const { settled } = await orchestrator.run(placeOrder, order, { id: freshId() })
    const { status } = await settled()
    if (status !== 'completed') throw new Error(`ended ${status}`)
  }
}
