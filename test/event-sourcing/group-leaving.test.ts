import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test, vi } from 'vitest'
import { MemoryEventStore, Repository, type RepositoryOptions } from '../../src/event-sourcing/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { counter, type CounterEvent } from './counter.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Whether nothing holds any of them any more. */
async function areGone(refs: readonly WeakRef<object>[]): Promise<boolean> {
  for (let i = 0; i < 100 && refs.some((ref) => ref.deref()); i++) {
    await new Promise((resolve) => setTimeout(resolve, 5))
    collectGarbage()
  }
  return refs.every((ref) => !ref.deref())
}

/** A store whose `method` waits until it is let go, from the moment on in which `hangs` is set. */
function openHanging(method: 'read' | 'append' | 'recall', options: Partial<RepositoryOptions> = {}) {
  const inner = new MemoryEventStore<CounterEvent>()
  const state = { hangs: false, waiting: 0, letGo: () => {} }
  const gate = new Promise<void>((resolve) => (state.letGo = resolve))
  const pass = async (): Promise<void> => {
    if (!state.hangs) return
    state.waiting++
    await gate
  }
  const hang = (value: (...args: unknown[]) => unknown) =>
    method === 'read'
      ? async function* (...args: unknown[]) {
          await pass()
          yield* value.apply(inner, args) as AsyncIterable<unknown>
        }
      : async (...args: unknown[]) => {
          await pass()
          return value.apply(inner, args)
        }
  const store = new Proxy(inner, {
    get(target, name) {
      const value = Reflect.get(target, name, target) as (...args: unknown[]) => unknown
      if (typeof value !== 'function') return value
      return name === method ? hang(value) : value.bind(target)
    },
  })
  return { state, deciders: new Repository(store, counter, { category: 'c', ...options }) }
}

const reason = new Error('enough')

/** Calls that are made and aborted. @returns their commands, of which `decided` counts how many were run */
async function leaving(deciders: ReturnType<typeof openHanging>['deciders'], count: number) {
  const decided = { count: 0 }
  const refs: WeakRef<object>[] = []
  const stop = new AbortController()
  const calls = Array.from({ length: count }, () => {
    const command = (): CounterEvent => {
      decided.count++
      return { type: 'Added', data: { n: 1 } }
    }
    refs.push(new WeakRef(command))
    return deciders.handle('1', command, { signal: stop.signal })
  })
  const outcomes = Promise.allSettled(calls)
  await new Promise((resolve) => setImmediate(resolve))
  stop.abort(reason)
  for (const outcome of await outcomes) expect(outcome).toMatchObject({ status: 'rejected', reason })
  return { refs, decided }
}

test('while the store can’t be read, who is aborted is gone at once, in line or in turn, and is not decided', async () => {
  const { deciders, state } = openHanging('read')
  await deciders.handle('1', { kind: 'open', limit: 100 })
  state.hangs = true
  const { refs, decided } = await leaving(deciders, 100) // 64 of them in one turn
  expect(state.waiting).toBe(1)
  const stays = deciders.handle('1', { kind: 'add', n: 5 })
  expect(await areGone(refs)).toBe(true)
  state.letGo()
  expect((await stays).state.total).toBe(5)
  expect(decided.count).toBe(0)
})

test('while an append hangs, who waits behind it and is aborted is gone at once, and those who stay have their turn', async () => {
  const { deciders, state } = openHanging('append')
  await deciders.handle('1', { kind: 'open', limit: 100 })
  state.hangs = true
  const first = deciders.handle('1', { kind: 'add', n: 1 })
  await vi.waitFor(() => expect(state.waiting).toBe(1))
  const { refs, decided } = await leaving(deciders, 100)
  const stays = [2, 3].map((n) => deciders.handle('1', { kind: 'add', n }))
  expect(await areGone(refs)).toBe(true)
  state.letGo()
  expect((await first).state.total).toBe(1)
  expect((await Promise.all(stays)).map((handled) => handled.state.total)).toEqual([3, 6])
  expect(decided.count).toBe(0)
})

test('who goes on in another line, because a decision takes too long, leaves that one too', async () => {
  const clock = new ManualClock()
  const { deciders, state } = openHanging('read', { clock, patienceMs: 50 })
  await deciders.handle('1', { kind: 'open', limit: 100 })
  let decide = (): void => {}
  const slow = deciders.handle('1', async (): Promise<CounterEvent> => {
    await new Promise<void>((resolve) => (decide = resolve))
    return { type: 'Added', data: { n: 1 } }
  })
  await new Promise((resolve) => setImmediate(resolve))
  const stop = new AbortController()
  const refs: WeakRef<object>[] = []
  const waits = (() => {
    const command = (): CounterEvent => ({ type: 'Added', data: { n: 10 } })
    refs.push(new WeakRef(command))
    return deciders.handle('1', command, { signal: stop.signal })
  })()
  state.hangs = true
  const advanced = clock.advance(50)
  await vi.waitFor(() => expect(state.waiting).toBe(1)) // the other line looks the state up
  stop.abort(reason)
  await expect(waits).rejects.toBe(reason)
  expect(await areGone(refs)).toBe(true)
  state.letGo()
  decide()
  expect((await slow).state.total).toBe(1)
  await advanced
  expect((await deciders.handle('1', { kind: 'add', n: 100 }).catch((error: Error) => error.message)) as string).toBe(
    'over the limit',
  )
})

test('who looks a key up in a store that hangs leaves when it is aborted', async () => {
  const { deciders, state } = openHanging('recall')
  state.hangs = true
  const stop = new AbortController()
  const options = { idempotencyKey: 'k', signal: stop.signal }
  const call = deciders.handle('1', { kind: 'open', limit: 1 }, options)
  await vi.waitFor(() => expect(state.waiting).toBe(1))
  stop.abort(reason)
  await expect(call).rejects.toBe(reason)
  await expect(deciders.handle('1', { kind: 'open', limit: 1 }, options)).rejects.toBe(reason)
  state.letGo()
  expect((await deciders.load('1')).exists).toBe(false)
})
