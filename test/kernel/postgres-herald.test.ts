import { EventEmitter } from 'node:events'
import { expect, onTestFinished, test, vi } from 'vitest'
import { Herald } from '../../src/kernel/postgres-herald.js'

function open() {
  const told: string[][] = []
  const heard: (readonly string[] | undefined)[] = []
  const db = {
    query: async (_text: string, params?: unknown[]) => {
      for (const message of (params?.[1] ?? []) as string[]) told.push(JSON.parse(message) as string[])
      return { rows: [] }
    },
  }
  const channel = { name: '' }
  const listener = Object.assign(new EventEmitter(), {
    query: async (text: string) => {
      channel.name = text.split(' ')[1]!
      return { rows: [] }
    },
  })
  const herald = new Herald(db, listener, true, 'any', (notes) => heard.push(notes))
  herald.listen()
  const say = (payload: string): boolean => listener.emit('notification', { channel: channel.name, payload })
  return { herald, told, heard, say, listening: () => channel.name !== '' }
}

test('what waits to be told when it stops is told at once, and it goes on telling', async () => {
  const { herald, told } = open()
  herald.tell('a')
  herald.tell('b') // too soon after the first
  herald.stop()
  await expect.poll(() => told).toEqual([['a'], ['b']])
  herald.tell('c')
  await expect.poll(() => told).toEqual([['a'], ['b'], ['c']])
})

test('a message that is not ours only says that something has changed', async () => {
  const { heard, say, listening } = open()
  await expect.poll(listening).toBe(true)
  for (const payload of ['{', '7', '{"a":1}', '[1]']) say(payload)
  say('["a"]')
  expect(heard).toEqual([undefined, undefined, undefined, undefined, ['a']])
})

test('a LISTEN that fails is sent again after waits that grow, until it works or it stops; then it has missed what was told', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  onTestFinished(() => {
    vi.useRealTimers()
    warned.mockRestore()
  })
  let works = false
  let tries = 0
  const query = async (): Promise<{ rows: unknown[] }> => {
    tries++
    if (!works) throw new Error('cut')
    return { rows: [] }
  }
  const heard = vi.fn<() => void>()
  const listener = Object.assign(new EventEmitter(), { query })
  const herald = new Herald({ query }, listener, false, 'any', heard)
  const after = async (ms: number): Promise<number> => {
    await vi.advanceTimersByTimeAsync(ms)
    return tries
  }
  herald.listen()
  expect(await after(50)).toBe(1)
  expect(await after(250)).toBe(2) // 100 ms after the first, 200 after the second
  expect(await after(300)).toBe(3)
  expect(await after(3_600_000)).toBeLessThan(140) // at most each 30 s
  const before = tries
  expect(await after(60_000)).toBeGreaterThan(before)
  expect(heard).not.toHaveBeenCalled()
  works = true
  const worked = await after(31_000) // the last
  expect(await after(3_600_000)).toBe(worked)
  expect(heard.mock.calls).toEqual([[undefined]])
  expect(warned).toHaveBeenCalledTimes(1)

  herald.stop()
  works = false
  herald.listen()
  await after(0)
  herald.stop()
  const stopped = await after(0)
  expect(await after(3_600_000)).toBe(stopped)
})
