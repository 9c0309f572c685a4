// An account as its events: decisions that hold under concurrency, time travel, and a read model that follows.
import {
  Aggregate,
  MemoryCheckpoints,
  MemoryEventStore,
  Repository,
  subscribe,
  type Event,
} from 'holdfast/event-sourcing'

type AccountEvent = Event<'Deposited', { cents: number }> | Event<'Withdrawn', { cents: number }>

class Account extends Aggregate<AccountEvent> {
  balance = 0
  withdraw(cents: number): void {
    if (cents > this.balance) throw new Error(`only ${this.balance} left`)
    this.raise({ type: 'Withdrawn', data: { cents } })
  }
  protected apply({ type, data }: AccountEvent): void {
    this.balance += type === 'Deposited' ? data.cents : -data.cents
  }
}

const store = new MemoryEventStore<AccountEvent>()
const accounts = new Repository(store, Account, { category: 'account' })
const withdraw = (cents: number, idempotencyKey?: string) =>
  accounts.handle('7', (account) => account.withdraw(cents), { idempotencyKey })
await accounts.handle('7', () => ({ type: 'Deposited', data: { cents: 500 } }))

console.log('Two withdraw 300 of 500 at the same time: one is decided on the state after the other.')
const tell = ({ state }: { state: Account }) => console.log(`  ${state.balance} left`)
await Promise.all([withdraw(300).then(tell), withdraw(300).then(tell, (error) => console.log(`  ${error.message}`))])
console.log('The same command twice, by its key, happens once.')
tell(await withdraw(50, 'request-1'))
tell(await withdraw(50, 'request-1'))
console.log('Every state there ever was:')
for await (const { version, state } of accounts.states('7')) console.log(`  version ${version}: ${state.balance}`)
let paidOut = 0
const projection = subscribe(store, new MemoryCheckpoints(), 'paid-out', ({ type, data }) => {
  if (type === 'Withdrawn') paidOut += data.cents
})
const { position } = await withdraw(100)
await projection.reached(position)
console.log(`A read model that has seen all of it, the last command too: ${paidOut} paid out`)
await projection.stop()
