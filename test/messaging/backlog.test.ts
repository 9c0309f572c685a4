import { expect, test } from 'vitest'
import { Backlog, type Burial, type Delivery } from '../../src/messaging/backlog.js'
import { Fifo } from '../../src/messaging/fifo.js'
import { fc, prop } from '../support/prop.js'

const burial: Burial = { reason: 'attempts', lastError: { name: 'Error', message: 'no' }, diedAt: new Date(0) }

type Step = 'put' | 'next' | 'done' | 'giveBack' | 'bury' | 'requeue' | 'drop'
const step = fc.record({
  kind: fc.constantFrom<Step>('put', 'put', 'next', 'next', 'done', 'giveBack', 'bury', 'requeue', 'drop'),
  key: fc.option(fc.constantFrom('a', 'b', '__proto__', ''), { nil: undefined }),
  pick: fc.nat(),
})

prop(
  'a backlog does as a list that is searched from its front: first of its key, none of its key out, nothing lost',
  [fc.constantFrom('key' as const, 'none' as const), fc.array(step, { maxLength: 60 })],
  (order, steps) => {
    const backlog = new Backlog(order)
    // The model: ids from front to back, those that are out, and the dead.
    let line: { id: string; key: string | undefined }[] = []
    const out: Delivery[] = []
    let dead: { id: string; key: string | undefined }[] = []
    const isOut = (key: string | undefined): boolean =>
      order === 'key' && key !== undefined && out.some(({ message }) => message.key === key)
    let count = 0

    for (const { kind, key, pick } of steps) {
      if (kind === 'put') {
        const id = `m${count++}`
        line.push({ id, key })
        backlog.put({ id, type: 'A', key, occurredAt: 0, text: id })
      } else if (kind === 'next') {
        const given = backlog.next()
        const free = line.filter((one) => !isOut(one.key))
        if (!given) {
          expect(free).toEqual([])
          continue
        }
        const firsts = free.filter(
          (one, i) => order === 'none' || one.key === undefined || free.findIndex((o) => o.key === one.key) === i,
        )
        expect(firsts.map(({ id }) => id)).toContain(given.message.id)
        if (order === 'none') expect(given.message.id).toBe(free[0]?.id)
        line = line.filter(({ id }) => id !== given.message.id)
        given.attempts++
        out.push(given)
      } else if (kind === 'requeue' || kind === 'drop') {
        const id = dead[pick % Math.max(1, dead.length)]?.id ?? 'never'
        const found = dead.filter((one) => one.id === id)
        expect(backlog[kind](id)).toBe(found.length > 0)
        dead = dead.filter((one) => one.id !== id)
        if (kind === 'requeue') line.push(...found)
      } else if (out.length > 0) {
        const [mine] = out.splice(pick % out.length, 1) as [Delivery]
        const { id, key: own } = mine.message
        if (kind === 'done') backlog.done(mine)
        if (kind === 'bury') backlog.bury(mine, burial)
        if (kind === 'bury') dead.push({ id, key: own })
        if (kind === 'giveBack') backlog.giveBack(mine)
        if (kind === 'giveBack') line.unshift({ id, key: own })
      }
      expect([backlog.held, backlog.waiting, backlog.dead]).toEqual([
        line.length + out.length + dead.length,
        line.length,
        dead.length,
      ])
      expect([...backlog.graves()].map(({ delivery }) => delivery.message.id)).toEqual(dead.map(({ id }) => id))
    }
  },
)

prop(
  'without keys, and with keys of which none is out, a backlog is first in, first out',
  [fc.array(fc.option(fc.constantFrom('a', 'b'), { nil: undefined }), { maxLength: 20 })],
  (keys) => {
    const backlog = new Backlog('key')
    for (const [i, key] of keys.entries()) backlog.put({ id: `${i}`, type: 'A', key, occurredAt: 0, text: '' })
    const seen: string[] = []
    for (let next = backlog.next(); next; next = backlog.next()) {
      seen.push(next.message.id)
      backlog.done(next)
    }
    expect(seen).toEqual(keys.map((_, i) => `${i}`))
  },
)

test('what waited for its key comes before all that came later', () => {
  const backlog = new Backlog('key')
  for (const id of ['a1', 'a2', 'b1', 'c1']) backlog.put({ id, type: 'A', key: id[0], occurredAt: 0, text: '' })
  const first = backlog.next() as Delivery
  expect(backlog.next()?.message.id).toBe('b1')
  backlog.done(first)
  expect(backlog.next()?.message.id).toBe('a2')
  expect(backlog.next()?.message.id).toBe('c1')
})

test('a message published twice and dead twice is two dead letters, requeued and dropped together', () => {
  const backlog = new Backlog('none')
  for (let i = 0; i < 2; i++) {
    backlog.put({ id: 'twin', type: 'A', key: undefined, occurredAt: 0, text: '' })
    backlog.bury(backlog.next() as Delivery, burial)
  }
  expect([...backlog.graves()]).toHaveLength(2)
  expect(backlog.requeue('twin')).toBe(true)
  expect([backlog.waiting, backlog.dead, backlog.held]).toEqual([2, 0, 2])
})

prop(
  'a Fifo does as an array',
  [fc.array(fc.constantFrom('push' as const, 'unshift' as const, 'shift' as const), { maxLength: 40 })],
  (steps) => {
    const fifo = new Fifo<number>()
    const model: number[] = []
    for (const [i, kind] of steps.entries()) {
      if (kind === 'shift') expect(fifo.shift()).toBe(model.shift())
      else {
        fifo[kind](i)
        model[kind](i)
      }
      expect(fifo.length).toBe(model.length)
    }
  },
)
