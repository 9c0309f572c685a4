import { expect, test } from 'vitest'
import { MemoryEventBus, type Inbox } from '../../src/messaging/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'

/** An inbox without a database: what `work` adds to `tx` counts when it resolves. */
function inbox(): Inbox<string[]> & { effects: string[]; asked: string[] } {
  const handled = new Set<string>()
  const effects: string[] = []
  const asked: string[] = []
  return {
    effects,
    asked,
    once: async (group, id, work) => {
      asked.push(`${group} ${id}`)
      if (handled.has(id)) return false
      const tx: string[] = []
      await work(tx)
      handled.add(id)
      effects.push(...tx)
      return true
    },
  }
}

test('with an inbox a message that comes twice has its effect once, and one that failed has none', async () => {
  const clock = new ManualClock()
  const bus = new MemoryEventBus({ clock })
  const box = inbox()
  await bus.subscribe({
    group: 'g',
    types: '*',
    inbox: box,
    retry: { backoff: () => 10 },
    handle: ({ id }, { tx, attempt, signal }) => {
      tx.push(`${id} ${attempt} ${signal.aborted}`)
      if (attempt === 1 && id === 'b') throw new Error('no')
    },
  })
  for (const id of ['a', 'a', 'b']) await bus.publish({ id, type: 't', key: id, data: 1 }) // this inbox waits for nobody
  await settle()
  await clock.advance(10)
  expect(box.effects).toEqual(['a 1 false', 'b 2 false'])
  expect(box.asked.toSorted()).toEqual(['g a', 'g a', 'g b', 'g b'])
  await bus.close()
})

test('without an inbox there is no transaction; what is none is refused', async () => {
  const bus = new MemoryEventBus()
  const seen: unknown[] = []
  await bus.subscribe({ group: 'g', types: '*', handle: (_, { tx }) => void seen.push(tx) })
  await bus.publish({ type: 't', data: 1 })
  await settle()
  expect(seen).toEqual([undefined])
  await expect(bus.subscribe({ group: 'h', types: '*', inbox: {} as never, handle: () => {} })).rejects.toThrow(
    /^inbox/,
  )
})
