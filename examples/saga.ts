// An order that is undone when it can't be finished: `npx tsx examples/saga.ts`
import { MemorySagaStore, SagaOrchestrator, saga, signal } from 'holdfast/saga'

const approved = signal<{ by: string }>('approved')

const placeOrder = saga<{ sku: string; cents: number }>('place-order', { version: 1, deadlineMs: 60_000 })
  .step('reserve', {
    run: ({ input, key }) => {
      console.log(`  reserve ${input.sku} (key ${key})`)
      return { ticket: 42 }
    },
    compensate: ({ result, outcome }) => console.log(`  release ticket ${result?.ticket} (it was ${outcome})`),
  })
  .parallel('checks', {
    fraud: (b) => b.step('score', { run: ({ input }) => (input.cents > 100_000 ? 0.9 : 0.1) }),
    stock: (b) => b.step('count', { run: () => 7 }),
  })
  .waitFor('approval', approved, { timeoutMs: 500 })
  .pivot('charge', {
    run: ({ results }) => {
      if (results.checks.fraud.score > 0.5) throw new Error('card declined')
      console.log(`  charge, as ${results.approval.by} approved`)
    },
  })
  .step('notify', { run: () => console.log('  notify') })
  .build()

const orchestrator = new SagaOrchestrator({ store: new MemorySagaStore(), sagas: [placeOrder] })
orchestrator.start()

async function order(id: string, cents: number, by?: string): Promise<void> {
  console.log(`${id}:`)
  const handle = await orchestrator.run(placeOrder, { sku: 'lamp', cents }, { id })
  if (by) await orchestrator.signal(id, approved, { by }) // may come before anybody waits for it
  const outcome = await handle.settled()
  const why = 'failure' in outcome ? ` because of ${outcome.failure?.path}: ${outcome.failure?.error.message}` : ''
  console.log(`  → ${outcome.status}${why}`)
}

await order('order-1', 5_000, 'ann') //   goes through
await order('order-2', 900_000, 'ann') // the card is declined: what was reserved is released
await order('order-3', 5_000) //          nobody approves in time: the same
await orchestrator.close()
