// What does an order leave behind when its process dies? Tries every moment: `npx tsx examples/saga-crash.ts`
import assert from 'node:assert/strict'
import { saga } from 'holdfast/saga'
import { exploreCrashes, simulate, type SimulatedSaga } from 'holdfast/testing'

/** Fakes of what the saga calls, new for each run. They tell a repeat by its key, as the real ones should. */
const shop = () => ({ reserved: new Set<string>(), charged: new Set<string>() })
type Shop = ReturnType<typeof shop>

const placeOrder = (release: 'by result' | 'by key') => (world: Shop) =>
  saga<{ sku: string }>('place-order', { version: 1 })
    .step('reserve', {
      run: ({ key }) => {
        world.reserved.add(key)
        return { ticket: key }
      },
      // a reservation whose answer was lost has no result
      compensate: ({ result, runKey }) =>
        void world.reserved.delete(release === 'by key' ? runKey : (result?.ticket ?? '')),
    })
    .sleep('cool-down', 86_400_000) // a day, which passes at once
    .pivot('charge', { run: ({ key }) => void world.charged.add(key) })
    .build()

const options = {
  effects: shop,
  input: { sku: 'lamp' },
  failures: ['fails', 'unsure'] as const, // each step, one at a time
  check: ({ status, effects }: SimulatedSaga<unknown, Shop>) => {
    assert(effects.charged.size <= 1, 'charged twice')
    assert(status !== 'compensated' || effects.reserved.size === 0, 'a reservation is left behind')
  },
}

console.log('— released by its result:')
await exploreCrashes({ ...options, saga: placeOrder('by result') }).catch((error: Error) => console.log(error.message))

console.log('\n— released by the key of its run:')
console.log((await exploreCrashes({ ...options, saga: placeOrder('by key') })).text)

console.log('\n— one of these runs:')
const crashAt = ['after run reserve', 'before write 3']
console.log((await simulate(placeOrder('by key'), options.input, { ...options, crashAt })).story)
