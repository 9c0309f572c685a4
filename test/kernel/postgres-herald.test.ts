import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
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
