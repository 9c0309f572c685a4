import type { EventBus } from 'holdfast/messaging'

/** What is sent: 15 fields and values, about 200 bytes as JSON. */
export const data = {
  orderId: 'order-1',
  userId: 'user-1',
  cents: 1_999,
  items: [{ sku: 'tea', quantity: 2 }],
  note: 'x'.repeat(90),
}
export const TYPE = 'OrderPlaced'
export const message = { type: TYPE, data }
export const text = JSON.stringify(data)

export const OURS = 'holdfast'

/** Counts what is handled. */
export class Counter {
  #count = 0
  #wanted = Infinity
  #reached = (): void => {}

  add(): void {
    if (++this.#count === this.#wanted) this.#reached()
  }

  /** Resolves when there are `count`. */
  until(count: number): Promise<void> {
    if (this.#count >= count) return Promise.resolve()
    this.#wanted = count
    return new Promise((resolve) => (this.#reached = resolve))
  }
}

/** Takes all messages of one group of ours, `concurrency` handlers at a time, until `count` are handled. @returns ends that */
export async function takenByOurs(
  bus: EventBus,
  group: string,
  { count, concurrency }: { readonly count: number; readonly concurrency: number },
): Promise<() => Promise<unknown>> {
  const counter = new Counter()
  const subscription = await bus.subscribe({
    ...{ group, types: [TYPE], order: 'none', concurrency },
    handle: async () => counter.add(),
  })
  await counter.until(count)
  return () => subscription.close()
}
