import { expect } from 'vitest'
import type { SagaTransaction, Transition } from '../../src/saga/index.js'
import { fc, prop } from '../support/prop.js'
import { lab, rest } from './lab.js'
import { anyKind, definitionOf, sagaSpec } from './random-saga.js'
import type { Log } from './reference.js'

/** Renewals and commits of each process are held up now and then, for longer than a lease. */
const pauses = fc.array(fc.record({ call: fc.nat(15), ms: fc.integer({ min: 1, max: 1_500 }) }), { maxLength: 6 })

prop(
  'two orchestrators that are paused beyond their leases never record two owners, nor anything twice',
  [sagaSpec(anyKind), pauses, pauses],
  async (spec, first, second) => {
    const { clock, store, effects, orchestrator } = lab()
    const log: Log = []
    const definition = definitionOf(spec, clock, log)
    const written: [epoch: number, position: number][] = []
    const two = [first, second].map((held) => {
      const o = orchestrator([definition], { leaseMs: 300 })
      const { commit, renew, transaction } = o.line.store
      let calls = 0
      const hold = async (): Promise<void> => {
        const ms = held.find((p) => p.call === calls)?.ms
        calls++
        if (ms !== undefined) await clock.sleep(ms)
      }
      o.line.store.renew = async (...args) => {
        await hold()
        return renew(...args)
      }
      o.line.store.commit = async (batch) => {
        await hold()
        const answers = await commit(batch)
        for (const [i, t] of batch.entries()) if (answers[i] === 'ok') written.push([t.epoch, t.position])
        return answers
      }
      o.line.store.transaction = async (work, record) => {
        await hold()
        let transition: Transition | undefined
        const heldUp = (tx: SagaTransaction): Promise<void> => work(tx).then(hold)
        const answer = await transaction!(heldUp, () => (transition = record()))
        if (answer === 'ok') written.push([transition!.epoch, transition!.position])
        return answer
      }
      return o
    })
    await two[0]!.run(definition, 1, { id: '1' })
    await clock.advance(12_000)
    await rest()
    const saga = (await store.read('1'))!
    for (const { line } of two) expect(line.calls.claim).toBeLessThan(200) // they wait for leases to end, they do not spin
    expect(written.map(([, position]) => position)).toEqual(saga.journal.map((_, i) => i))
    expect(written.map(([epoch]) => epoch)).toEqual(written.map(([epoch]) => epoch).toSorted((a, b) => a - b))
    const ends = saga.journal.flatMap((r) => r.entries).filter((e) => e.type === 'done' || e.type === 'compensated')
    expect(new Set(ends.map((e) => `${e.type} ${(e as { path: string }).path}`)).size).toBe(ends.length)
    expect(new Set(effects).size).toBe(effects.length) // of transactions
  },
  { numRuns: 40 },
)
