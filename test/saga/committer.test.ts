import { expect, test } from 'vitest'
import { Committer } from '../../src/saga/committer.js'
import type { Fenced, Transition } from '../../src/saga/index.js'

const transition = (id: string): Transition => ({
  ...{ id, epoch: 1, position: 0, record: { at: 1, entries: [] }, status: 'running', consumed: [], seen: 0 },
  next: { dueAt: null },
})

test('a transition of which the store says nothing does not count', async () => {
  const calls: string[][] = []
  const committer = new Committer({
    commit: async (transitions): Promise<readonly Fenced[]> => {
      calls.push(transitions.map(({ id }) => id))
      return ['ok']
    },
  })
  expect(await Promise.all(['a', 'b'].map((id) => committer.commit(transition(id))))).toEqual(['ok', 'fenced'])
  expect(calls).toEqual([['a', 'b']])
})
