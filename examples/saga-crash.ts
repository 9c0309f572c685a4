// What does an order leave behind when its process dies? Tries every moment: `npx tsx examples/saga-crash.ts`
import assert from 'node:assert/strict'
import { saga, type SagaDefinition } from 'holdfast/saga'
import { exploreCrashes, simulate } from 'holdfast/testing'

/** Fakes of what the saga calls, new for each run. Both tell a repeat by its key, as the real ones should. */
function shop() {
  const reserved = new Map<string, string>()
  const charged = new Map<string, number>()
  return {
    reserved,
    charged,
    reserve: (key: string, sku: string) => void reserved.set(key, sku),
    release: (key: string) => void reserved.delete(key),
    charge: (key: string, cents: number) => void charged.set(key, cents),
  }
}
type Shop = ReturnType<typeof shop>
type Order = { sku: string; cents: number }

const placeOrder = (world: Shop, release: 'by result' | 'by key'): SagaDefinition<Order> =>
  saga<Order>('place-order', { version: 1 })
    .step('reserve', {
      run: ({ input, key }) => {
        world.reserve(key, input.sku)
        return { ticket: key }
      },
      // a reservation of which nobody got the answer has no result
      compensate: ({ result, runKey }) => {
        if (release === 'by key') world.release(runKey)
        else if (result) world.release(result.ticket)
      },
    })
    .sleep('cool-down', 86_400_000) // a day, which passes at once
    .pivot('charge', { run: ({ input, key }) => world.charge(key, input.cents) })
    .build()

const options = {
  input: { sku: 'lamp', cents: 4_900 },
  effects: shop,
  failures: ['fails', 'unsure'],
} as const
const check = ({ status, effects }: { status: string; effects: Shop }): void => {
  assert.equal(effects.charged.size <= 1, true, 'charged twice')
  if (status === 'compensated') assert.equal(effects.reserved.size, 0, 'a reservation is left behind')
}

console.log('— the reservation is released by its result:')
try {
  await exploreCrashes({ ...options, saga: (world: Shop) => placeOrder(world, 'by result'), check })
} catch (error) {
  console.log((error as Error).message)
}

console.log('\n— the reservation is released by the key of its run:')
const report = await exploreCrashes({
  ...options,
  saga: (world: Shop) => placeOrder(world, 'by key'),
  check,
  crashes: 2,
})
console.log(report.text)

console.log('\n— one of these runs:')
const crashAt = ['after run reserve', 'before write 3']
console.log(
  (await simulate((world: Shop) => placeOrder(world, 'by key'), options.input, { ...options, crashAt })).story,
)
