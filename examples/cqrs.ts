// Commands write events, queries read a model that follows them, and a query can ask to see what a command wrote.
import { z } from 'zod'
import { CommandBus, QueryBus } from 'holdfast/cqrs'
import { MemoryCheckpoints, MemoryEventStore, subscribe, type Event } from 'holdfast/event-sourcing'

type Deposited = Event<'Deposited', { cents: number }>
const store = new MemoryEventStore<Deposited>()

interface Commands {
  Deposit: { in: { account: string; cents: number }; out: { position: number; duplicate: boolean } }
}
const commands = new CommandBus<Commands>()
commands.use(async (message, next) => {
  try {
    return await next({ metadata: { user: 'ann' } })
  } finally {
    console.log(`${message.kind} ${message.type} of ${message.messageId} is over`)
  }
})
const schema = z.object({ account: z.string(), cents: z.number().int().positive() })
commands.on(
  'Deposit',
  ({ account, cents }, context) => store.append(account, [{ type: 'Deposited', data: { cents } }], context),
  { schema },
)

const balances = new Map<string, number>()
const projection = subscribe<Deposited, undefined>(store, new MemoryCheckpoints(), 'balances', ({ streamId, data }) => {
  balances.set(streamId, (balances.get(streamId) ?? 0) + data.cents)
})
const queries = new QueryBus<{ Balance: { in: string; out: number } }>({ readModel: projection })
queries.on('Balance', (account) => balances.get(account) ?? 0)

const input = { account: 'a-1', cents: 500 }
const { position } = await commands.send('Deposit', input, { messageId: 'm-1' })
console.log('at once:', await queries.send('Balance', 'a-1'))
console.log('read your writes:', await queries.send('Balance', 'a-1', { atLeast: position }))
console.log('sent again, a duplicate:', (await commands.send('Deposit', input, { messageId: 'm-1' })).duplicate)
await commands
  .send('Deposit', { ...input, cents: -5 }, { messageId: 'm-2' })
  .catch((e: Error) => console.log(e.message))
for await (const { type, metadata } of store.read('a-1')) console.log(type, metadata)
await projection.stop()
