import { expect } from 'vitest'
import type { Inbox } from '../../src/messaging/index.js'
import { lawsFor } from './laws.js'

/** An inbox, and effects that are written in its transaction. */
export interface Harness<Tx> {
  inbox: Inbox<Tx>
  /** Writes an effect. */
  write(tx: Tx, effect: string): Promise<void>
  /** The effects that count, in any order. */
  effects(): Promise<readonly string[]>
  /** Lets `ms` pass. */
  advance(ms: number): Promise<void>
  close(): Promise<void>
}

/**
 * The laws of `Inbox`.
 * @param open an inbox that remembers for `retainMs`
 * @param gaps law → why this adapter can't keep it; such a test must fail
 */
export function inboxContract<Tx>(
  adapter: string,
  open: (options?: { retainMs: number }) => Promise<Harness<Tx>>,
  gaps: Record<string, string> = {},
): void {
  const law = lawsFor(adapter, open, gaps)

  law('a message is handled once for a group, and it says so', async ({ inbox, write, effects }) => {
    expect(await inbox.once('g', 'a', (tx) => write(tx, 'one'))).toBe(true)
    expect(await inbox.once('g', 'a', (tx) => write(tx, 'two'))).toBe(false)
    expect(await effects()).toEqual(['one'])
  })

  law('groups do not notice each other, nor do messages', async ({ inbox, write, effects }) => {
    for (const [group, id] of [
      ['g', 'a'],
      ['h', 'a'],
      ['g', 'b'],
      ['g a', 'b'],
      ['g', 'a b'],
      ['ga', 'b'],
      ['g', 'ab'],
    ] as const)
      expect(await inbox.once(group, id, (tx) => write(tx, `${group}/${id}`))).toBe(true)
    expect(await effects()).toHaveLength(7)
  })

  law('what was thrown comes out, and the message is not remembered', async ({ inbox, write }) => {
    const error = new Error('no')
    const thrown = await inbox
      .once('g', 'a', () => Promise.reject(error))
      .then(
        () => undefined,
        (e: unknown) => e,
      )
    expect(thrown).toBe(error)
    expect(await inbox.once('g', 'a', (tx) => write(tx, 'again'))).toBe(true)
  })

  law('what was written before it threw does not count', async ({ inbox, write, effects }) => {
    const failing = inbox.once('g', 'a', async (tx) => {
      await write(tx, 'half')
      throw new Error('no')
    })
    await expect(failing).rejects.toThrow('no')
    expect(await effects()).toEqual([])
  })

  law('of twenty calls at once one is run, and all others wait for it', async ({ inbox, write, effects }) => {
    let over = false
    const calls = Array.from({ length: 20 }, async () => {
      const ran = await inbox.once('g', 'a', async (tx) => {
        await new Promise((resolve) => setImmediate(resolve))
        await write(tx, 'x')
        over = true
      })
      expect(over).toBe(true)
      return ran
    })
    expect((await Promise.all(calls)).filter(Boolean)).toHaveLength(1)
    expect(await effects()).toEqual(['x'])
  })

  law('when the one that is run fails, one that waits is run instead', async ({ inbox, write, effects }) => {
    let runs = 0
    const calls = await Promise.allSettled(
      Array.from({ length: 10 }, () =>
        inbox.once('g', 'a', async (tx) => {
          await new Promise((resolve) => setImmediate(resolve))
          if (++runs <= 3) throw new Error('no')
          await write(tx, 'x')
        }),
      ),
    )
    expect(runs).toBe(4)
    expect(calls.filter(({ status }) => status === 'rejected')).toHaveLength(3)
    expect(calls.filter((c) => c.status === 'fulfilled' && c.value)).toHaveLength(1)
    expect(await effects()).toEqual(['x'])
  })

  law('groups and ids are any strings that are not empty', async ({ inbox, write }) => {
    const names = ['a', ' a', "'; drop table x --", '\\', "\\'", '\0', '\ud800', '\ufeffa', '%', '$1', '__proto__', 'é']
    for (const name of [...names, 'x'.repeat(60_000), `${'x'.repeat(60_000)}y`]) {
      expect(await inbox.once(name, name, (tx) => write(tx, 'e'))).toBe(true)
      expect(await inbox.once(name, name, (tx) => write(tx, 'e'))).toBe(false)
    }
    await expect(inbox.once('', 'a', (tx) => write(tx, 'e'))).rejects.toThrow(/^group/)
    await expect(inbox.once('g', '', (tx) => write(tx, 'e'))).rejects.toThrow(/^id/)
    await expect(inbox.once('g', 'a', 1 as never)).rejects.toThrow(/^work/)
  })

  law(
    'a message is forgotten after its time',
    async ({ inbox, advance, write }) => {
      expect(await inbox.once('g', 'a', (tx) => write(tx, 'e'))).toBe(true)
      await advance(1_100)
      await inbox.once('g', 'b', (tx) => write(tx, 'e'))
      await advance(200)
      expect(await inbox.once('g', 'a', (tx) => write(tx, 'e'))).toBe(true)
    },
    { retainMs: 100 },
  )
}
