import { describe, expect, test } from 'vitest'
import { constant, saga, signal } from '../../src/saga/index.js'
import { ManualClock, simulate } from '../../src/testing/index.js'

const approved = signal<{ by: string }>('approved')

const order = (log: string[]) =>
  saga<number>('order', { version: 1, deadlineMs: 864_000_000 })
    .step('reserve', {
      run: ({ attempt }) => {
        log.push(`reserve ${attempt}`)
        if (attempt < 3) throw new Error('busy')
      },
      compensate: ({ outcome }) => void log.push(`release ${outcome}`),
      retry: { attempts: 3, backoff: constant(60_000) },
    })
    .waitFor('approval', approved, { timeoutMs: 86_400_000 })
    .sleep('cool-down', 3_600_000)
    .pivot('charge', { run: ({ input }) => input * 2 })
    .step('tell', { run: ({ emit }) => emit({ type: 'OrderPaid', data: 1 }) })
    .build()

const signals = [{ signal: approved, payload: { by: 'ann' }, atMs: 7_200_000 }]

describe('simulate', () => {
  test('lets retries, waits and pauses pass at once, and says what came of them', async () => {
    const end = await simulate(order, 21, { effects: (): string[] => [], signals })
    expect(end).toMatchObject({
      status: 'completed',
      outcome: { results: { approval: { by: 'ann' }, charge: 42 } },
      effects: ['reserve 1', 'reserve 2', 'reserve 3'],
      published: [{ type: 'OrderPaid' }],
      durationMs: 7_200_000 + 3_600_000,
      crashes: [],
    })
  })

  test('lets a timeout, a deadline and a cancel come', async () => {
    const log = (): string[] => []
    const late = await simulate(order, 1, { effects: log })
    expect(late.outcome).toMatchObject({ status: 'compensated', failure: { kind: 'timed-out', path: 'approval' } })
    expect(late.effects.at(-1)).toBe('release done')
    const cancelled = await simulate(order, 1, { effects: log, cancelAtMs: 130_000 })
    expect(cancelled.outcome).toMatchObject({ failure: { kind: 'cancelled' } })
    const hanging = saga<number>('hanging', { version: 1, deadlineMs: 60_000 })
      .step('never', { run: ({ signal: stop }) => new Promise((_, no) => stop.addEventListener('abort', no)) })
      .build()
    expect((await simulate(hanging, 1)).outcome).toMatchObject({ failure: { kind: 'deadline' } })
  })

  test('fails the step that it is told to, for certain or after its effect, and its compensation', async () => {
    const log: string[] = []
    const plain = saga<number>('plain', { version: 1 })
      .step('a', { run: () => void log.push('a'), compensate: ({ outcome }) => void log.push(`undo ${outcome}`) })
      .parallel('p', { x: (b) => b.step('b', { run: () => void log.push('b') }) })
      .build()
    expect((await simulate(plain, 1, { failAt: 'p/x/b' })).status).toBe('compensated')
    expect(log.splice(0)).toEqual(['a', 'undo done'])
    expect((await simulate(plain, 1, { failAt: { path: 'a', how: 'unsure' } })).status).toBe('compensated')
    expect(log.splice(0)).toEqual(['a', 'undo unknown'])
    const stuck = await simulate(plain, 1, { failAt: ['p/x/b', { path: 'a', body: 'compensate' }] })
    expect([stuck.status, stuck.view.blocked]).toEqual(['parked', ['a']])
    await expect(simulate(plain, 1, { failAt: 'b' })).rejects.toThrow(/failAt.*p\/x\/b/)
  })

  test('crashes where it is told to: another process goes on when the lease has run out', async () => {
    const options = { effects: (): string[] => [], signals, leaseMs: 5_000 }
    const end = await simulate(order, 1, { ...options, crashAt: ['after run reserve', 'before write 3'] })
    expect(end.status).toBe('completed')
    expect(end.effects).toEqual(['reserve 1', 'reserve 2', 'reserve 3', 'reserve 4']) // a crash is no failure
    expect(end.crashes).toEqual([
      { name: 'after run reserve', about: undefined, atMs: 0 },
      { name: 'before write 3', about: 'reserve done, approval waiting', atMs: 65_000 },
    ])
    expect(end.view.epoch).toBeGreaterThanOrEqual(3)
    expect(end.story).toContain('process 2')
  })

  test('crashes in a publication: it is published again, under the same id', async () => {
    const options = { effects: (): string[] => [], signals }
    for (const [crashAt, times] of [
      ['before publish 1', 1],
      ['after publish 1', 2],
    ] as const) {
      const { status, published } = await simulate(order, 1, { ...options, crashAt })
      expect([status, published.length, new Set(published.map(({ id }) => id)).size]).toEqual(['completed', times, 1])
    }
  })

  test('gives transactions a database of the caller, which commits with the journal', async () => {
    const effects = (): { rows: string[] } => ({ rows: [] })
    const begin = ({ rows }: { rows: string[] }) => {
      const asked: string[] = []
      return {
        query: async (text: string) => ({ rows: [], rowCount: asked.push(text) }),
        commit: () => void rows.push(...asked),
        rollback: () => void asked.splice(0),
      }
    }
    const ledger = saga<number>('ledger', { version: 1 })
      .transaction('book', { run: ({ tx }) => tx.query('book'), compensate: ({ tx }) => tx.query('unbook') })
      .step('last', { run: () => {} })
      .build()
    const rows = async (crashAt: string, failAt: string[] = []): Promise<string[]> =>
      (await simulate(ledger, 1, { effects, begin, crashAt, failAt })).effects.rows
    expect(await rows('before write 1')).toEqual(['book'])
    expect(await rows('after write 1')).toEqual(['book'])
    expect(await rows('after run book')).toEqual(['book'])
    expect(await rows('after compensate book', ['last'])).toEqual(['book', 'unbook'])
    expect(await rows('before run book', ['book'])).toEqual([])
  })

  test('lets bodies go on that were under way in other branches, but starts none in a process that is dead', async () => {
    const both = (log: string[]) =>
      saga<number>('both', { version: 1 })
        .parallel('p', {
          slow: (b) =>
            b
              .step('sleep', {
                run: () =>
                  clockOf
                    .get(log)!
                    .sleep(100)
                    .then(() => log.push('slow')),
              })
              .step('next', { run: () => void log.push('next') }),
          fast: (b) => b.step('fast', { run: () => void log.push('fast') }),
        })
        .build()
    const clockOf = new Map<string[], { sleep(ms: number): Promise<void> }>()
    const end = await simulate(both, 1, {
      effects: (clock) => {
        const log: string[] = []
        clockOf.set(log, clock)
        return log
      },
      crashAt: 'after run p/fast/fast',
    })
    expect(end.status).toBe('completed')
    expect(end.effects).toEqual(['fast', 'slow', 'fast', 'slow', 'next'])
    expect(end.story).toContain('went on to its end, though its process is dead')
  })

  test('leaves no timer behind, whatever crashed', async () => {
    const clock = new ManualClock()
    const late = [...signals, { signal: approved, payload: { by: 'bob' }, atMs: 1e9 }]
    const crashAt = ['after run reserve', 'before write 4']
    await simulate(order, 1, { effects: (): string[] => [], clock, signals: late, crashAt })
    expect(clock.pendingTimers).toBe(0)
  })

  test('says that a saga does not end', async () => {
    const waits = saga<number>('waits', { version: 1 }).waitFor('approval', approved).build()
    const end = await simulate(waits, 1)
    expect([end.status, end.outcome]).toEqual(['waiting', undefined])
    expect(end.story).toContain('does not end')
    const hangs = saga<number>('hangs', { version: 1 })
      .step('never', { run: () => new Promise(() => {}) })
      .build()
    expect((await simulate(hangs, 1, { maxMs: 60_000 })).status).toBe('running')
  })

  test('draws what happened', async () => {
    const { mermaid } = await simulate(order, 1, { effects: (): string[] => [], signals, crashAt: 'before write 3' })
    expect(mermaid).toMatch(/^sequenceDiagram\n {2}participant P1 as process 1\n {2}participant P2/)
    expect(mermaid).toContain('Note over P1: crash before write 3 #40;reserve done, approval waiting#41;')
    expect(mermaid).toContain('P2->>J: write 4: reserve interrupted')
  })

  test('passes on what the orchestrator refuses, and mistakes in its options', async () => {
    const one = saga<() => void>('one', { version: 1 }).sleep('s', 1).build()
    await expect(simulate(one, () => {})).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
    const bad = [{ signal: approved, payload: () => {} }]
    const ordered = simulate(order, 1, { effects: (): string[] => [], signals: bad })
    await expect(ordered).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
    await expect(simulate(one, () => {}, { leaseMs: 0 })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })
})
