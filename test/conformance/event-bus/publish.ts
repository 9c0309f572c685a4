import { expect } from 'vitest'
import type { DeliveryContext, Message, OutgoingMessage } from '../../../src/messaging/index.js'
import { gate, numbers, range, type Law } from './bench.js'

/** What is published, and whom it reaches. */
export function publishLaws(law: Law): void {
  law('a handler gets the message as it was published', async (t) => {
    const seen = await t.collect('g', '*')
    const whole = {
      id: 'm-1',
      type: 'OrderPlaced',
      key: 'order-7',
      data: { at: new Date(5), big: 12n, many: new Map([['a', new Set([1])]]), none: undefined, list: [-0, NaN] },
      headers: { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'x-ü': '' },
      occurredAt: new Date('2026-02-03T04:05:06.789Z'),
    }
    await t.bus.publish(whole)
    await t.until(() => seen.length === 1)
    expect(seen).toEqual([whole])
  })

  law('a message gets an id of its own, empty headers and the time when it says nothing of them', async (t) => {
    const seen = await t.collect('g', '*')
    await t.bus.publish([
      { type: 'A', data: 1 },
      { type: 'A', data: 2 },
    ])
    await t.until(() => seen.length === 2)
    expect(new Set(seen.map(({ id }) => id)).size).toBe(2)
    for (const message of seen) {
      expect(message).toMatchObject({ headers: {}, occurredAt: expect.any(Date) })
      expect('key' in message).toBe(false)
    }
  })

  law('what the publisher changes afterwards changes nothing', async (t) => {
    const seen = await t.collect('g', '*')
    const message = { type: 'A', data: { n: 1 }, headers: { h: '1' }, occurredAt: new Date(1) }
    const published = t.bus.publish(message)
    message.data.n = 2
    message.headers.h = '2'
    message.occurredAt.setTime(2)
    await published
    await t.until(() => seen.length === 1)
    expect(seen[0]).toMatchObject({ data: { n: 1 }, headers: { h: '1' }, occurredAt: new Date(1) })
  })

  law('every delivery is a copy of its own: what one handler changes, no other sees', async (t) => {
    const seen: unknown[] = []
    const handle = (message: Message, { attempt }: DeliveryContext): void => {
      seen.push(structuredClone(message.data))
      ;(message.data as { n: number }).n = 99
      if (attempt === 1) throw new Error('once more')
    }
    await t.subscribe('g', '*', handle, { retry: { attempts: 2, backoff: () => 0 } })
    await t.subscribe('h', '*', handle, { retry: { attempts: 2, backoff: () => 0 } })
    await t.bus.publish({ type: 'A', data: { n: 1 } })
    await t.until(() => seen.length === 4)
    expect(seen).toEqual([{ n: 1 }, { n: 1 }, { n: 1 }, { n: 1 }])
  })

  law('each group gets every message, and the subscriptions of a group share them', async (t) => {
    const [one, two, other] = [await t.collect('g', ['A']), await t.collect('g', ['A']), await t.collect('h', ['A'])]
    await t.bus.publish(t.many(40, 'A'))
    await t.until(() => one.length + two.length >= 40 && other.length >= 40)
    expect(numbers([...one, ...two])).toEqual(range(40))
    expect(numbers(other)).toEqual(range(40))
  })

  law('every subscription of a group gets a share while the others are busy', async (t) => {
    const release = gate()
    const busy: string[] = []
    const hold = (name: string) => async (): Promise<void> => {
      busy.push(name)
      await release.opened
    }
    await t.subscribe('g', ['A'], hold('one'), { concurrency: 1 })
    await t.subscribe('g', ['A'], hold('two'), { concurrency: 1 })
    await t.bus.publish(t.many(2, 'A'))
    await t.until(() => busy.length === 2)
    expect(busy.toSorted()).toEqual(['one', 'two'])
    release.open()
  })

  law('a subscription takes the types it names, as they stand, and no other', async (t) => {
    const odd = ['*', '__proto__', 'a.b', 'a.*', '#', 'a', 'A', '\u{1f4e6}', 'x'.repeat(300)]
    const seen = await Promise.all(odd.map((type) => t.collect(`only ${type}`, [type])))
    const all = await t.collect('all', '*')
    await t.bus.publish(odd.map((type) => ({ type, data: type })))
    await t.until(() => all.length === odd.length && seen.every(({ length }) => length >= 1))
    expect(seen.map((messages) => messages.map(({ type }) => type))).toEqual(odd.map((type) => [type]))
  })

  law('groups and keys may be any string', async (t) => {
    const odd = ['__proto__', ':', '{x}', '*', 'a b', '\u0000', '\u{1f4e6}']
    const seen = await Promise.all(odd.map((group) => t.collect(group, ['A'])))
    await t.bus.publish([...odd, ''].map((key) => ({ type: 'A', key, data: key })))
    await t.until(() => seen.every((messages) => messages.length === odd.length + 1))
    for (const messages of seen) expect(new Set(messages.map(({ key }) => key))).toEqual(new Set([...odd, '']))
  })

  law('a group gets what is published after its first subscription, not before', async (t) => {
    await t.collect('early', ['A'])
    await t.bus.publish({ type: 'A', data: 0 })
    const late = await t.collect('late', ['A'])
    await t.bus.publish({ type: 'A', data: 1 })
    await t.until(() => late.length >= 1)
    expect(numbers(late)).toEqual([1])
  })

  law('messages wait for a group while none of its subscriptions is open', async (t) => {
    const first = await t.subscribe('g', ['A'], () => {})
    await first.close()
    await t.bus.publish(t.many(5, 'A', 'k'))
    const seen = await t.collect('g', ['A'])
    await t.until(() => seen.length >= 5)
    expect(numbers(seen)).toEqual(range(5))
  })

  law('publishing nothing, or what no group takes, does no harm', async (t) => {
    const seen = await t.collect('g', ['A'])
    await t.bus.publish([])
    await t.bus.publish({ type: 'A', data: 1 })
    await t.until(() => seen.length === 1)
  })

  law('a malformed message is refused, and none that came with it is stored', async (t) => {
    const seen = await t.collect('g', '*')
    const good = { type: 'A', data: 0 }
    const bad: unknown[] = [
      undefined,
      'A',
      { data: 1 },
      { type: '', data: 1 },
      { type: 'A', id: '' },
      { type: 'A', id: 7 },
      { type: 'A', key: 7 },
      { type: 'A', headers: 'x' },
      { type: 'A', headers: { n: 1 } },
      { type: 'A', occurredAt: 5 },
      { type: 'A', occurredAt: new Date(NaN) },
    ]
    for (const message of bad)
      await expect(t.bus.publish([good, message as OutgoingMessage])).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    for (const data of [() => {}, Symbol('s'), new URLSearchParams(), { deep: [Promise.resolve()] }])
      await expect(t.bus.publish([good, { type: 'A', data }])).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
    await t.bus.publish({ type: 'A', data: 1 })
    await t.until(() => seen.length >= 1)
    expect(numbers(seen)).toEqual([1])
  })
}
