import { expect, test } from 'vitest'
import { scenario } from '../../src/testing/index.js'
import { Counter, counter, type CounterEvent } from './counter.js'

const opened: CounterEvent = { type: 'Opened', data: { limit: 5 } }
const added = (n: number): CounterEvent => ({ type: 'Added', data: { n } })

test('given events, when a command, then these events and no others', async () => {
  await scenario(counter).given().when({ kind: 'open', limit: 5 }).then(opened)
  await scenario(counter).given(opened, added(2)).when({ kind: 'add', n: 3 }).then(added(3))
  await scenario(counter).given().when({ kind: 'close' }).nothing()
  const full = scenario(counter).given(opened).when({ kind: 'add', n: 3 })
  await expect(full.then(added(2))).rejects.toThrow(/expected: .*n: 2[\s\S]*actual: .*n: 3/)
  await expect(full.nothing()).rejects.toThrow('other events than expected')
  await expect(full.then(added(3), added(3))).rejects.toThrow('other events than expected')
})

test('a decider that returns nothing has decided nothing, as in a repository', async () => {
  const silent = { ...counter, decide: () => undefined as never }
  await scenario(silent).given().when({ kind: 'close' }).nothing()
})

test('then an error: its class, and its message where given', async () => {
  const over = scenario(counter).given(opened).when({ kind: 'add', n: 6 })
  await over.throws(Error)
  await over.throws(Error, 'over')
  await over.throws(Error, /^over the limit$/)
  const global = /limit/g // remembers where it was
  await over.throws(Error, global)
  await over.throws(Error, global)
  await expect(over.throws(TypeError)).rejects.toThrow('another error than expected')
  await expect(over.throws(Error, 'under')).rejects.toThrow('another message than expected')
  await expect(scenario(counter).given(opened).when({ kind: 'close' }).throws(Error)).rejects.toThrow('no error')
  await expect(over.nothing()).rejects.toThrow('over the limit')
})

test('then a state, after the events of the command', async () => {
  const two = scenario(counter).given(opened, added(1)).when({ kind: 'add', n: 1 })
  await two.state((state) => expect(state).toEqual({ status: 'open', limit: 5, total: 2 }))
  const boom = new Error('no')
  await expect(
    two.state(() => {
      throw boom
    }),
  ).rejects.toBe(boom)
})

test('an aggregate class is tested alike, with commands that are functions of it', async () => {
  await scenario(Counter)
    .given()
    .when((c) => c.open(5))
    .then(opened)
  const full = scenario(Counter).given(opened, added(2))
  await full
    .when((c) => {
      c.add(1)
      return added(2)
    })
    .then(added(1), added(2))
  await full.when(async (c) => c.add(4)).throws(Error, 'over the limit')
  await full.when(() => {}).nothing()
  await full
    .when((c) => c.add(1))
    .state((c) => {
      expect([c.total, c.status, c.version, c.id]).toEqual([3, 'open', 2, 'id'])
    })
  await expect(full.when((c) => c.add(1)).then(added(2))).rejects.toThrow('other events than expected')
})

test('a scenario that expects nothing says so when it is awaited', async () => {
  const nothing: unknown = scenario(counter).given().when({ kind: 'close' })
  await expect((async () => await nothing)()).rejects.toThrow('nothing is expected')
})
