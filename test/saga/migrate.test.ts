import { expect, test } from 'vitest'
import { saga, signal, type SagaDefinition, type SagaOrchestrator } from '../../src/saga/index.js'
import { lab, rest as restOnce, type Lab } from './lab.js'

const go = signal<string>('go')
/** A saga that is moved needs some more turns. */
const rest = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await restOnce()
}
type Bodies = (name: string) => { run: () => string; compensate: () => void }

/** Bodies that write down what they do, by version. */
const bodies =
  (log: string[], version: number): Bodies =>
  (name) => ({
    run: () => {
      log.push(`run ${name} v${version}`)
      return `${name} of v${version}`
    },
    compensate: () => void log.push(`undo ${name} v${version}`),
  })

interface Moving extends Lab {
  readonly log: string[]
  readonly v1: Bodies
  readonly v2: Bodies
  /** Begins a saga of `from`, lets it come as far as it gets, and gives an orchestrator that only runs `to`. */
  begin(from: SagaDefinition, to: SagaDefinition): Promise<SagaOrchestrator>
}

function moving(): Moving {
  const own = lab()
  const log: string[] = []
  const begin = async (from: SagaDefinition, to: SagaDefinition): Promise<SagaOrchestrator> => {
    const old = own.orchestrator([from])
    await old.run(from, 0, { id: '1' })
    await own.clock.advance(100)
    await old.close()
    return own.orchestrator([to])
  }
  return { ...own, log, v1: bodies(log, 1), v2: bodies(log, 2), begin }
}

const define = (version: number) => saga<number>('s', { version })
const by = { who: 'ada', why: 'v2 is out' }

test('a saga that waits goes on as the new definition says, with what it has done, and its history says so', async () => {
  const { clock, log, v1, v2, begin } = moving()
  const old = define(1).step('a', v1('a')).waitFor('w', go).step('b', v1('b')).build()
  const next = define(2)
    .step('a', v2('a'))
    .waitFor('w', go)
    .step('renamed', { run: ({ results }) => `${results.a}, ${results.w}` })
    .step('added', v2('added'))
    .build()
  const o = await begin(old, next)
  await o.migrate('1', { to: next, from: old, by })
  const { status, version, history, nodes } = (await o.get('1'))!
  expect({ status, version, history, nodes: nodes.map((n) => n.status) }).toEqual({
    status: 'waiting',
    version: 2,
    history: [{ verb: 'migrate', ...by, at: clock.epochMs(), applied: true, from: 1, to: 2 }],
    nodes: ['done', 'waiting', 'pending', 'pending'],
  })
  await o.signal('1', go, 'ok')
  await rest()
  expect(await o.get('1')).toMatchObject({ status: 'completed', results: { renamed: 'a of v1, ok' } })
  expect(log).toEqual(['run a v1', 'run added v2'])
})

test('what was done before is undone by the new definition, in reverse', async () => {
  const { log, v1, v2, begin } = moving()
  const old = define(1).step('a', v1('a')).step('b', v1('b')).waitFor('w', go).build()
  const next = define(2).step('a', v2('a')).step('b', v2('b')).waitFor('w', go).step('c', v2('c')).build()
  const o = await begin(old, next)
  await o.migrate('1', { to: next, from: old })
  await o.cancel('1', 'no')
  await rest()
  expect((await o.get('1'))?.status).toBe('compensated')
  expect(log).toEqual(['run a v1', 'run b v1', 'undo b v2', 'undo a v2'])
})

const fits = (from: SagaDefinition, to: SagaDefinition, options: object = {}) => ({ from, to, options })
const refusals: Record<string, (m: Moving) => ReturnType<typeof fits> & { reason: string; path?: string }> = {
  'a step that has begun is not there': ({ v1, v2 }) => ({
    ...fits(
      define(1).step('a', v1('a')).waitFor('w', go).build(),
      define(2).step('b', v2('b')).waitFor('w', go).build(),
    ),
    ...{ reason: 'missing', path: 'a' },
  }),
  'a step that has begun is of another kind': ({ v1, v2 }) => ({
    ...fits(
      define(1).step('a', v1('a')).waitFor('w', go).build(),
      define(2)
        .pivot('a', { run: v2('a').run })
        .waitFor('w', go)
        .build(),
    ),
    ...{ reason: 'other-kind', path: 'a' },
  }),
  'steps that have begun change places': ({ v1, v2 }) => ({
    ...fits(
      define(1).step('a', v1('a')).step('b', v1('b')).waitFor('w', go).build(),
      define(2).step('b', v2('b')).step('a', v2('a')).waitFor('w', go).build(),
    ),
    ...{ reason: 'other-order', path: 'a' },
  }),
  'a new step stands before what has begun': ({ v1, v2 }) => ({
    ...fits(
      define(1).step('a', v1('a')).waitFor('w', go).build(),
      define(2).step('new', v2('new')).step('a', v2('a')).waitFor('w', go).build(),
    ),
    ...{ reason: 'stands-before', path: 'new' },
  }),
  'a new pivot stands before what has begun': ({ v1, v2 }) => ({
    ...fits(
      define(1).step('a', v1('a')).waitFor('w', go).build(),
      define(2)
        .step('a', v2('a'))
        .pivot('p', { run: () => 1 })
        .waitFor('w', go)
        .build(),
    ),
    ...{ reason: 'stands-before', path: 'p' },
  }),
  'a new branch of a block that is done': ({ v1, v2 }) => ({
    ...fits(
      define(1)
        .parallel('p', { x: (b) => b.step('a', v1('a')) })
        .waitFor('w', go)
        .build(),
      define(2)
        .parallel('p', { x: (b) => b.step('a', v2('a')), y: (b) => b.step('c', v2('c')) })
        .waitFor('w', go)
        .build(),
    ),
    ...{ reason: 'stands-before', path: 'p/y/c' },
  }),
  'a step that may have to be undone has no compensation': ({ v1, v2 }) => ({
    ...fits(
      define(1).step('a', v1('a')).waitFor('w', go).build(),
      define(2)
        .step('a', { run: v2('a').run })
        .waitFor('w', go)
        .build(),
    ),
    ...{ reason: 'no-compensation', path: 'a' },
  }),
  'it is a saga of another name': ({ v1 }) => ({
    ...fits(
      define(1).step('a', v1('a')).waitFor('w', go).build(),
      saga<number>('t', { version: 2 }).step('a', v1('a')).build(),
    ),
    reason: 'other-saga',
  }),
  'it has ended': ({ v1, v2 }) => ({
    ...fits(define(1).step('a', v1('a')).build(), define(2).step('a', v2('a')).step('b', v2('b')).build()),
    reason: 'ended',
  }),
  'the definition that it began with is not known': ({ v1, v2 }) => ({
    ...fits(define(1).step('a', v1('a')).waitFor('w', go).build(), define(2).step('a', v2('a')).build(), {
      from: undefined,
    }),
    reason: 'unknown-definition',
  }),
}
for (const [name, make] of Object.entries(refusals))
  test(`refused, with nothing changed: ${name}`, async () => {
    const m = moving()
    const { from, to, options, reason, path } = make(m)
    const o = await m.begin(from, to)
    const before = await m.store.read('1')
    await expect(o.migrate('1', { to, from, ...options })).rejects.toMatchObject({
      ...{ name: 'SagaMigrationError', code: 'SAGA_MIGRATION', family: 'conflict', sagaId: '1', reason, path },
    })
    expect(await m.store.read('1')).toEqual(before)
  })

test('new steps count as done or skipped where a saga is past them, and run where it is not', async () => {
  const { orchestrator, log, v1, v2 } = moving()
  const old = define(1).waitFor('first', go).step('a', v1('a')).waitFor('w', go).build()
  const next = define(2)
    .waitFor('first', go)
    .step('new', v2('new'))
    .step('less', v2('less'))
    .step('a', v2('a'))
    .waitFor('w', go)
    .step('end', { run: ({ results }) => [results.new, results.less] })
    .build()
  const o = orchestrator([old, next])
  for (const id of ['past', 'early']) await o.run(old, 0, { id })
  await o.signal('past', go, '1')
  await rest()
  for (const id of ['past', 'early']) await o.migrate(id, { to: next, done: { new: 'by hand' }, skipped: ['less'] })
  await o.signal('past', go, '2')
  for (const n of ['1', '2']) await o.signal('early', go, n)
  await rest()
  expect((await o.get('past'))?.results['end']).toEqual(['by hand', undefined])
  expect((await o.get('early'))?.results['end']).toEqual(['new of v2', 'less of v2'])
  expect(log).toEqual(['run a v1', 'run new v2', 'run less v2', 'run a v2'])
})

test('what counts as done is undone when the saga turns back, what is skipped is not', async () => {
  const { log, v1, v2, begin } = moving()
  const old = define(1).step('a', v1('a')).waitFor('w', go).build()
  const next = define(2).step('x', v2('x')).step('y', v2('y')).step('a', v2('a')).waitFor('w', go).build()
  const o = await begin(old, next)
  await o.migrate('1', { to: next, from: old, done: { x: 1 }, skipped: ['y'] })
  await o.cancel('1', 'no')
  await rest()
  expect(log).toEqual(['run a v1', 'undo a v2', 'undo x v2'])
})

test('a pivot that counts as done leaves no way back', async () => {
  const { v1, v2, begin } = moving()
  const old = define(1).step('a', v1('a')).waitFor('w', go).build()
  const next = define(2)
    .pivot('p', { run: () => 1 })
    .step('a', v2('a'))
    .waitFor('w', go)
    .build()
  const o = await begin(old, next)
  await o.migrate('1', { to: next, from: old, skipped: ['p'] })
  await o.cancel('1', 'no')
  await rest()
  expect(await o.get('1')).toMatchObject({ status: 'waiting', late: { reason: 'no' } })
})

test('a wait that the new definition has not is given up; one for another signal begins anew', async () => {
  const { orchestrator, clock, v1, v2 } = moving()
  const old = define(1).step('a', v1('a')).waitFor('w', go, { timeoutMs: 1_000 }).build()
  const without = define(2).step('a', v2('a')).build()
  const other = define(3).step('a', v2('a')).waitFor('w', signal<string>('other'), { timeoutMs: 1_000 }).build()
  const o = orchestrator([old, without, other])
  for (const id of ['1', '2']) await o.run(old, 0, { id })
  await clock.advance(500)
  await o.migrate('1', { to: without })
  await o.migrate('2', { to: other })
  await clock.advance(700)
  expect((await o.get('1'))?.status).toBe('completed')
  expect((await o.get('2'))?.status).toBe('waiting')
  await clock.advance(400)
  expect((await o.get('2'))?.failure?.kind).toBe('timed-out')
})

test('a step that was planned and has not begun may change, and new ones may stand before it', async () => {
  const { orchestrator, clock, log, v1, v2 } = moving()
  const slow = { ...v1('a'), run: () => clock.sleep(100) }
  const old = define(1).step('a', slow).step('b', v1('b')).build()
  const next = define(2).step('a', v2('a')).step('new', v2('new')).step('b', v2('b')).build()
  const first = orchestrator([old])
  await first.run(old, 0, { id: '1' })
  await rest()
  const closed = first.close()
  await clock.advance(100)
  await closed
  const o = orchestrator([next])
  await o.migrate('1', { to: next, from: old })
  await rest()
  expect((await o.get('1'))?.status).toBe('completed')
  expect(log).toEqual(['run new v2', 'run b v2'])
})

test('one that may have begun may not: its process has vanished', async () => {
  const { orchestrator, store, clock, v1, v2, log } = moving()
  const old = define(1)
    .step('a', v1('a'))
    .step('b', { ...v1('b'), run: () => clock.sleep(1e9) })
    .build()
  const next = define(2).step('a', v2('a')).step('new', v2('new')).step('b', v2('b')).build()
  const kept = define(3)
    .step('a', v2('a'))
    .step('b', v2('b'))
    .step('c', { run: () => Promise.reject(new Error('no')) })
    .build()
  const first = orchestrator([old])
  await first.run(old, 0, { id: '1' })
  await rest()
  const o = orchestrator([next, kept])
  await expect(o.migrate('1', { to: kept, from: old })).rejects.toMatchObject({ reason: 'busy' })
  first.line.cut()
  await clock.advance(10_001)
  const before = await store.read('1')
  await expect(o.migrate('1', { to: next, from: old })).rejects.toMatchObject({ reason: 'stands-before', path: 'new' })
  expect(await store.read('1')).toEqual(before)
  await o.migrate('1', { to: kept, from: old })
  await rest()
  expect((await store.read('1'))!.journal.flatMap((r) => r.entries)).toContainEqual({ type: 'interrupted', path: 'b' })
  expect(log).toEqual(['run a v1', 'run b v2', 'undo b v2', 'undo a v2'])
})

test('a parked saga goes on by an operator as the new definition says; one that goes back is undone to its end', async () => {
  const { orchestrator, log, v1, v2 } = moving()
  const fails = () => Promise.reject(new Error('no'))
  const old = define(1)
    .step('a', { ...v1('a'), compensate: fails, compensateRetry: { attempts: 1 } })
    .step('b', { run: fails })
    .build()
  const next = define(2).step('new', v2('new')).step('a', v2('a')).step('b', { run: fails }).build()
  const o = orchestrator([old, next])
  await o.run(old, 0, { id: '1' })
  await rest()
  expect((await o.get('1'))?.status).toBe('parked')
  await o.migrate('1', { to: next, done: { new: 1 } })
  await rest()
  expect((await o.get('1'))?.blocked).toEqual(['a'])
  await o.retry('1', 'ada')
  await rest()
  expect((await o.get('1'))?.status).toBe('compensated')
  expect(log).toEqual(['run a v1', 'undo a v2']) // what is new was never run
})

test('a saga is moved twice, and once more to where it is; what was written under each definition is read by it', async () => {
  const { store, orchestrator, log, v1, v2 } = moving()
  // redriven before its moves: `b` was done once as a step, and is a pivot now
  const old = define(1)
    .step('a', v1('a'))
    .step('b', v1('b'))
    .step('c', { run: () => Promise.reject(new Error('no')) })
    .build()
  const second = define(2)
    .step('a', v2('a'))
    .waitFor('w', go)
    .pivot('b', { run: v2('b').run })
    .step('d', v2('d'))
    .build()
  const third = define(3)
    .step('a', v2('a'))
    .waitFor('w', go)
    .waitFor('w2', signal<string>('more'))
    .pivot('b', { run: v2('b').run })
    .build()
  const first = orchestrator([old])
  await first.run(old, 0, { id: '1' })
  await rest()
  await first.close()
  const idle = orchestrator([])
  await idle.redrive('1', { from: 'a' })
  const one = orchestrator([old])
  const stop = one.on('node', ({ path, status }) => path === 'a' && status === 'running' && void one.close())
  await rest()
  stop()
  const o = orchestrator([second, third])
  await o.migrate('1', { to: second, from: old })
  await rest()
  expect(await o.get('1')).toMatchObject({ status: 'waiting', version: 2 })
  for (let i = 0; i < 2; i++) await o.migrate('1', { to: third, by: 'bob' })
  await rest()
  const view = (await o.get('1'))!
  expect(view.history.map(({ verb, from, to }) => [verb, from, to])).toEqual([
    ['redrive', undefined, undefined],
    ['migrate', 1, 2],
    ['migrate', 2, 3],
  ])
  await o.cancel('1', 'not past the pivot')
  await rest()
  expect((await o.get('1'))?.status).toBe('compensated')
  expect(log.filter((line) => line.startsWith('undo'))).toEqual(['undo b v1', 'undo a v1', 'undo a v2'])
  expect((await store.read('1'))!.version).toBe(3)
})

test('a handle of a saga that is moved resolves with what the new definition gives', async () => {
  const { orchestrator, v1, v2 } = moving()
  const old = define(1).step('a', v1('a')).waitFor('w', go).build()
  const next = define(2).step('a', v2('a')).waitFor('w', go).step('b', v2('b')).build()
  const o = orchestrator([old, next])
  const handle = await o.run(old, 0, { id: '1' })
  await rest()
  await o.migrate('1', { to: next })
  await o.signal('1', go, 'x')
  expect(await handle.settled()).toEqual({ status: 'completed', results: { a: 'a of v1', w: 'x', b: 'b of v2' } })
})

test('a structure that changed under one version is moved too', async () => {
  const { v1, v2, begin } = moving()
  const old = define(1).step('a', v1('a')).waitFor('w', go).build()
  const changed = define(1).step('a', v2('a')).waitFor('w', go).step('b', v2('b')).build()
  const o = await begin(old, changed)
  expect((await o.get('1'))?.definition).toBe('drifted')
  await o.migrate('1', { to: changed, from: old })
  await o.signal('1', go, 'x')
  await rest()
  expect((await o.get('1'))?.status).toBe('completed')
})

test('what is asked wrongly is refused before anything is read', async () => {
  const { orchestrator, v1 } = moving()
  const to = define(1)
    .parallel('p', { x: (b) => b.step('a', v1('a')) })
    .build()
  const o = orchestrator([to])
  const invalid = { name: 'InvalidOptionError' }
  await expect(o.migrate('1', { to: {} as never })).rejects.toMatchObject(invalid)
  await expect(o.migrate('1', { to, done: { nowhere: 1 } })).rejects.toMatchObject(invalid)
  await expect(o.migrate('1', { to, skipped: ['p'] })).rejects.toMatchObject(invalid)
  await expect(o.migrate('1', { to, done: { 'p/x/a': 1 }, skipped: ['p/x/a'] })).rejects.toMatchObject(invalid)
  await expect(o.migrate('1', { to, by: '' })).rejects.toMatchObject(invalid)
  await expect(o.migrate('1', { to })).rejects.toMatchObject({ name: 'NotFoundError' })
})
