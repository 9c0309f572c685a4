import { CircuitBreaker } from 'holdfast/resilience'

// A payment provider that is down for a while, behind a circuit that opens when half of the last ten calls failed.
const circuit = new CircuitBreaker({
  name: 'payments',
  window: { kind: 'count', size: 10, minimumCalls: 4, failureRatio: 0.5 },
  openMs: { initialMs: 200, maxMs: 5_000, factor: 2 },
})
circuit.on('stateChange', ({ from, to, openMs }) =>
  console.log(`       circuit: ${from} -> ${to}${openMs === undefined ? '' : ` for ${openMs} ms`}`),
)

let up = true
let asked = 0
const charge = async (): Promise<string> => {
  asked++
  if (!up) throw new Error('connection refused')
  return 'paid'
}

async function call(): Promise<void> {
  const result = await circuit.attempt(charge).catch((error: Error) => error)
  if (result instanceof Error) console.log(`failed:  ${result.message}`)
  else if (result.ok) console.log(`success: ${result.value}`)
  else console.log(`refused: ${result.error.message}, try again in ${Math.ceil(result.error.retryAfterMs ?? 0)} ms`)
}
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

for (let i = 0; i < 3; i++) await call()
console.log('--- the provider goes down')
up = false
for (let i = 0; i < 5; i++) await call() // the third failure is half of six calls: the circuit opens
await sleep(210)
await call() // its open time is over, so this is a trial: it fails, and the circuit stays open for longer
await call()
console.log('--- the provider comes back')
up = true
await sleep(410)
await call() // the trial succeeds: the circuit closes
await call()
console.log(`12 calls were made, the provider saw ${asked} of them`)
