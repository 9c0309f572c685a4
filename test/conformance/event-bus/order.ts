import { expect } from 'vitest'
import type { Message } from '../../../src/messaging/index.js'
import { gate, inOrder, numbers, range, type Law } from './bench.js'

/** What may run at one time, and what waits. */
export function orderLaws(law: Law): void {
  law('messages of one key are handled one after another, in the order of publish calls, awaited or not', async (t) => {
    const running = new Map<string, number>()
    const seen: Message[] = []
    await t.subscribe(
      'g',
      ['A'],
      async (message) => {
        const key = message.key as string
        running.set(key, (running.get(key) ?? 0) + 1)
        expect(running.get(key)).toBe(1)
        await t.pause((message.data as number) % 3)
        running.set(key, 0)
        seen.push(message)
      },
      { order: 'key', concurrency: 8 },
    )
    await Promise.all(range(30).map((n) => t.bus.publish({ type: 'A', key: `k${n % 3}`, data: n })))
    await t.until(() => seen.length >= 30)
    for (const k of [0, 1, 2])
      expect(inOrder(seen.filter(({ key }) => key === `k${k}`))).toEqual(range(30).filter((n) => n % 3 === k))
  })

  law('the order of a key holds across the subscriptions of its group', async (t) => {
    const seen: Message[] = []
    const handle = async (message: Message): Promise<void> => {
      await t.pause((message.data as number) % 2)
      seen.push(message)
    }
    await t.subscribe('g', ['A'], handle, { order: 'key' })
    await t.subscribe('g', ['A'], handle, { order: 'key' })
    await t.bus.publish(t.many(12, 'A', 'k'))
    await t.until(() => seen.length >= 12)
    expect(inOrder(seen)).toEqual(range(12))
  })

  law('a message that fails holds back its own key only', async (t) => {
    const seen: Message[] = []
    let heal = false
    await t.subscribe(
      'g',
      ['A'],
      (message) => {
        if (message.data === 0 && !heal) throw new Error('not yet')
        seen.push(message)
      },
      { order: 'key', concurrency: 2, retry: { attempts: 1_000_000, backoff: () => 5 } },
    )
    await t.bus.publish([
      { type: 'A', key: 'bad', data: 0 },
      { type: 'A', key: 'bad', data: 1 },
      ...range(10).map((n) => ({ type: 'A', key: `good-${n % 2}`, data: 10 + n })),
      { type: 'A', data: 20 },
    ])
    await t.until(() => seen.length >= 11)
    expect(numbers(seen)).toEqual(range(21).slice(10))
    heal = true
    await t.until(() => seen.length >= 13)
    expect(inOrder(seen.filter(({ key }) => key === 'bad'))).toEqual([0, 1])
  })

  law('without an order, a message that fails holds back nothing', async (t) => {
    const seen: Message[] = []
    await t.subscribe(
      'g',
      ['A'],
      (message) => {
        if (message.data === 0) throw new Error('never')
        seen.push(message)
      },
      { order: 'none', concurrency: 1, retry: { attempts: 1_000_000, backoff: () => 5 } },
    )
    await t.bus.publish(t.many(6, 'A', 'k'))
    await t.until(() => seen.length >= 5)
    expect(numbers(seen)).toEqual([1, 2, 3, 4, 5])
  })

  law('no more handlers run at one time than concurrency allows, and no fewer when there is work', async (t) => {
    let [running, most, done] = [0, 0, 0]
    const three = gate()
    await t.subscribe(
      'g',
      ['A'],
      async () => {
        most = Math.max(most, ++running)
        if (most >= 3) three.open()
        await three.opened // a broker may bring them one by one
        await t.pause(2)
        running--
        done++
      },
      { concurrency: 3 },
    )
    await t.bus.publish(t.many(12, 'A'))
    await t.until(() => done >= 12)
    expect(most).toBe(3)
  })
}
