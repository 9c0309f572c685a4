import { expect } from 'vitest'
import type { SubjectKeys } from '../../src/event-sourcing/index.js'
import { lawsFor } from './laws.js'

export interface SubjectKeysHarness {
  readonly keys: SubjectKeys
  /** The same keys, as another process sees them. */
  readonly elsewhere: SubjectKeys
  close(): Promise<void>
}

/** @param gaps law → why this adapter can't keep it; such a test must fail. */
export function subjectKeysContract(
  adapter: string,
  open: () => Promise<SubjectKeysHarness>,
  gaps: Record<string, string> = {},
): void {
  const law = lawsFor(adapter, open, gaps)
  const hex = (key: Uint8Array | undefined): string | undefined => key && Buffer.from(key).toString('hex')

  law('a subject gets a key of 32 bytes, and keeps it', async ({ keys, elsewhere }) => {
    expect((await keys.get(['a'])).size).toBe(0)
    const key = await keys.ensure('a')
    expect(key).toHaveLength(32)
    expect(hex(await elsewhere.ensure('a'))).toBe(hex(key))
    expect(hex((await elsewhere.get(['x', 'a', 'y'])).get('a'))).toBe(hex(key))
    expect(hex(await keys.ensure('b'))).not.toBe(hex(key))
    expect((await keys.get([])).size).toBe(0)
  })

  law('of many that ask at the same time all get the same key', async ({ keys, elsewhere }) => {
    const all = await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 ? keys : elsewhere).ensure('a')))
    expect(new Set(all.map(hex)).size).toBe(1)
  })

  law('a shredded subject has no key, and gets no other', async ({ keys, elsewhere }) => {
    await keys.ensure('a')
    await keys.ensure('b')
    await keys.shred('a')
    await keys.shred('a')
    for (const side of [keys, elsewhere]) {
      expect([...(await side.get(['a', 'b'])).keys()]).toEqual(['b'])
      await expect(side.ensure('a')).rejects.toMatchObject({ code: 'SHREDDED', subject: 'a' })
    }
    await keys.shred('never seen')
    await expect(elsewhere.ensure('never seen')).rejects.toMatchObject({ code: 'SHREDDED' })
  })

  law('of those that ask while it is shredded, none gets another key', async ({ keys, elsewhere }) => {
    const first = await keys.ensure('a')
    const asked = Array.from({ length: 10 }, () => elsewhere.ensure('a'))
    const answers = await Promise.allSettled([...asked, keys.shred('a')])
    for (const answer of answers.slice(0, -1)) {
      if (answer.status === 'fulfilled') expect(hex(answer.value as Uint8Array)).toBe(hex(first))
      else expect(answer.reason).toMatchObject({ code: 'SHREDDED' })
    }
  })

  law('any name is a subject of its own', async ({ keys }) => {
    const names = ['a', 'a\u0000', '\\x61', '__proto__', 'é', 'x'.repeat(5_000), `${'x'.repeat(4_999)}y`, '\ud800']
    const made = new Map<string, string | undefined>()
    for (const name of names) made.set(name, hex(await keys.ensure(name)))
    const got = await keys.get(names)
    expect(names.map((name) => hex(got.get(name)))).toEqual([...made.values()])
    expect(new Set(made.values()).size).toBe(names.length)
    await expect(keys.ensure('')).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })
}
