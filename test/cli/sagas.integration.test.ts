import { Redis } from 'ioredis'
import { expect, inject, onTestFinished, test } from 'vitest'
import { run } from '../../src/cli/run.js'
import { saga, SagaOrchestrator, signal } from '../../src/saga/index.js'
import type { PostgresSagaStore } from '../../src/saga/postgres.js'
import { RedisSagaStore } from '../../src/saga/redis.js'
import { openPool, openStore } from '../saga/database.js'

const pool = openPool()
const url = inject('postgresUrl')

interface Ended {
  readonly code: number
  readonly lines: readonly string[]
  readonly complaints: string
}

async function holdfast(
  args: readonly string[],
  {
    columns = Infinity,
    env = { DATABASE_URL: url },
    ask,
    end = new AbortController().signal,
  }: {
    columns?: number
    env?: Record<string, string>
    ask?: (question: string) => Promise<string>
    end?: AbortSignal
  } = {},
): Promise<Ended> {
  const lines: string[] = []
  const complaints: string[] = []
  const out = (line: string): void => void lines.push(line)
  const err = (line: string): void => void complaints.push(line)
  const code = await run(args, { out, err, columns, env, ask, signal: end })
  return { code, lines, complaints: complaints.join('\n') }
}

const approved = signal<{ by: string }>('approved')

/** What the tests can break. */
const broken = { charge: true, release: true, notify: true }

const order = saga<{ sku: string }>('order', { version: 1, deadlineMs: 3_600_000 })
  .step('reserve', {
    run: ({ input }) => ({ reservation: input.sku }),
    compensate: () => {
      if (broken.release) throw new Error('shelf \u001b[31mlocked')
    },
    compensateRetry: { attempts: 2, backoff: () => 1 },
  })
  .parallel('checks', {
    'fraud/score': (b) => b.step('score', { run: () => 7 }),
    credit: (b) => b.step('limit', { run: () => 'fine', compensate: () => {} }),
  })
  .step('charge', {
    run: () => {
      if (broken.charge) throw new TypeError('over the limit')
    },
  })
  .build()

const letter = saga('letter', { version: 2 })
  .waitFor('approval', approved)
  .pivot('send', { run: () => 'sent' })
  .step('notify', {
    run: () => {
      if (broken.notify) throw new Error('no network')
    },
  })
  .build()

interface Shop {
  readonly store: PostgresSagaStore
  readonly orchestrator: SagaOrchestrator
  /** The command on this shop's sagas. */
  readonly sagas: (...args: string[]) => Promise<Ended>
  readonly schema: string
}

async function openShop({ running = true } = {}): Promise<Shop> {
  Object.assign(broken, { charge: true, release: true, notify: true })
  const { store, schema } = await openStore(pool)
  const orchestrator = new SagaOrchestrator({ store, sagas: running ? [order, letter] : [], pollMs: 20 })
  onTestFinished(() => orchestrator.close())
  orchestrator.start()
  return { store, orchestrator, schema, sagas: (...args) => holdfast(['sagas', ...args, '--schema', schema]) }
}

/** A saga that waits for an operator, because it could not be undone. */
async function parked(shop: Shop, id = 'order-1'): Promise<void> {
  const handle = await shop.orchestrator.run(order, { sku: 'rope' }, { id })
  expect((await handle.settled()).status).toBe('parked')
}

const BY = ['--by', 'ada', '--why', 'counted by hand', '--yes']

test('sagas lists them by id, by status, name and time without news, page by page', async () => {
  const shop = await openShop()
  await parked(shop)
  await shop.orchestrator.run(letter, undefined, { id: 'a letter' })
  await expect.poll(async () => (await shop.store.read('a letter'))?.status).toBe('waiting')
  const plain = ({ lines }: Ended): string[] => lines.map((line) => line.replace(/ {2}since .*/, '').trimEnd())
  const all = await shop.sagas()
  expect(all.code).toBe(0)
  expect(all.complaints).toBe('')
  expect(plain(all)).toEqual(['"a letter"  letter@2  waiting', 'order-1     order@1   parked'])
  expect(await shop.sagas('list')).toEqual(all)
  expect(plain(await shop.sagas('--status', 'parked'))).toEqual(['order-1  order@1  parked'])
  expect(plain(await shop.sagas('--name', 'letter'))).toHaveLength(1)
  expect(plain(await shop.sagas('--stuck-for', '0'))).toHaveLength(2)
  expect(await shop.sagas('--stuck-for', '3600')).toMatchObject({ code: 0, lines: [], complaints: 'no sagas' })
  const first = await shop.sagas('--limit', '1')
  expect(first).toMatchObject({ complaints: 'there are more: --after "a letter"' })
  expect(plain(await shop.sagas('--limit', '1', '--after', 'a letter'))).toEqual(['order-1  order@1  parked'])
  const [json] = (await shop.sagas('--json')).lines
  expect(JSON.parse(json as string)).toMatchObject({ id: 'a letter', name: 'letter', version: 2, status: 'waiting' })
})

test('one saga is told from its journal alone: where it stands, why, every failure, its branches, what was sent to it', async () => {
  const shop = await openShop()
  await parked(shop)
  const { lines } = await shop.sagas('order-1')
  const text = lines
    .join('\n')
    .replaceAll(/\+\d+\.\d+ s/g, '+T')
    .replaceAll(/\d{4}-\d\d-\S+Z/g, 'TIME')
  expect(text.replaceAll(/ +/g, ' ')).toBe(`order-1 order@1 parked
 began TIME
 last write TIME
 owners 1 so far
 definition ${order.hash}
 input { sku: 'rope' }
 deadline TIME
 turned back failed at charge: TypeError: over the limit
 parked reserve: its compensation failed (Error: shelf \\u001b[31mlocked)

nodes
 reserve stuck attempt 2 +T … +T <- decide: reserve { reservation: 'rope' }
 +T compensate, attempt 1: Error: shelf \\u001b[31mlocked
 +T compensate, attempt 2: Error: shelf \\u001b[31mlocked
 checks/
 fraud/score/
 score done +T … +T 7
 credit/
 limit compensated +T … +T 'fine'
 charge failed +T … +T
 +T run, attempt 1: TypeError: over the limit`)
  expect((await shop.sagas('show', 'order-1')).lines).toEqual(lines)

  const json = JSON.parse((await shop.sagas('order-1', '--json')).lines.join('\n'))
  expect(json).toMatchObject({
    status: 'parked',
    direction: 'back',
    blocked: ['reserve'],
    failure: { kind: 'failed', path: 'charge' },
    late: null,
    input: { sku: 'rope' },
  })
  expect(json.nodes.map((node: { path: string }) => node.path)).toContain('checks/fraud~1score/score')

  await shop.orchestrator.run(letter, undefined, { id: 'letter-1' })
  await shop.orchestrator.signal('order-1', approved, { by: 'eve' })
  expect((await shop.sagas('order-1')).lines.at(-1)?.trim()).toMatch(/^1 {2}signal approved {2}\{ by: 'eve' \}$/)
  const narrow = await holdfast(['sagas', 'order-1', '--schema', shop.schema], { columns: 30 })
  expect(Math.max(...narrow.lines.map((line) => line.length))).toBe(30)
})

test('sagas on Redis', async () => {
  Object.assign(broken, { charge: true, release: true, notify: true })
  const redis = new Redis(inject('redisUrl'))
  const prefix = `cli:${crypto.randomUUID()}:`
  const store = new RedisSagaStore(redis, { prefix })
  const orchestrator = new SagaOrchestrator({ store, sagas: [order], pollMs: 20 })
  onTestFinished(async () => {
    await orchestrator.close()
    redis.disconnect()
  })
  orchestrator.start()
  await (await orchestrator.run(order, { sku: 'rope' }, { id: 'order-1' })).settled()
  const sagas = (...args: string[]) =>
    holdfast(['sagas', ...args, '--redis-url', inject('redisUrl'), '--prefix', prefix], { env: {} })
  expect((await sagas('--status', 'parked')).lines).toEqual([
    expect.stringMatching(/^order-1 {2}order@1 {2}parked {2}/),
  ])
  expect((await sagas('order-1')).lines.join('\n')).toContain('parked       reserve: its compensation failed')
  expect((await sagas('skip', 'order-1', 'reserve', ...BY)).lines[0]).toMatch(/^skip: taken; order-1 is/)
  await expect.poll(async () => (await store.read('order-1'))?.status).toBe('compensated')
  expect((await sagas('order-1')).lines.at(-1)).toMatch(/skip reserve {2}by ada {2}carried out/)
})

test('--mermaid draws what the journal knows, branches too', async () => {
  const shop = await openShop()
  await parked(shop)
  const chart = (await shop.sagas('order-1', '--mermaid')).lines
  expect((await shop.sagas('mermaid', 'order-1')).lines).toEqual(chart)
  expect(chart[0]).toBe('flowchart TD')
  expect(chart.join('\n')).toMatch(/\["reserve: stuck"\]:::failed/)
  expect(chart.join('\n')).toMatch(/>"fraud#47;score"\]|>"fraud\/score"\]/)
  expect(chart.join('\n')).toMatch(/\["score: done"\]:::done/)
})

test('a saga of which nothing has come yet says so', async () => {
  const shop = await openShop({ running: false })
  await shop.orchestrator.run(letter, undefined, { id: 'new' })
  const { lines } = await shop.sagas('new')
  expect(lines.at(-1)).toBe('  none has come to anything yet: the beginning of the first is not recorded')
})

test('retry, skip and resolve unpark a saga; the history keeps who and why', async () => {
  const shop = await openShop()
  await parked(shop, 'retried')
  broken.release = false
  expect(await shop.sagas('retry', 'retried', ...BY)).toMatchObject({
    code: 0,
    complaints: '',
    lines: [expect.stringMatching(/^retry: taken; retried is (compensating|compensated) \(was parked\)$/)],
  })
  await expect.poll(async () => (await shop.store.read('retried'))?.status).toBe('compensated')
  expect((await shop.sagas('retried')).lines.at(-1)).toMatch(/Z {2}retry {2}by ada {2}carried out {2}counted by hand$/)

  broken.release = true
  await parked(shop, 'skipped')
  expect((await shop.sagas('skip', 'skipped', 'reserve', ...BY)).lines[0]).toMatch(/^skip: taken; skipped is/)
  await expect.poll(async () => (await shop.store.read('skipped'))?.status).toBe('compensated')

  const handle = await shop.orchestrator.run(letter, undefined, { id: 'resolved' })
  await shop.orchestrator.signal('resolved', approved, { by: 'eve' })
  expect(await handle.settled()).toMatchObject({ status: 'parked', blocked: ['notify'] })
  const resolved = await shop.sagas('resolve', 'resolved', 'notify', '--result', '{"by":"phone"}', ...BY)
  expect(resolved.lines).toEqual(['resolve: taken; resolved is completed (was parked)'])
  expect((await shop.orchestrator.get('resolved'))?.results['notify']).toEqual({ by: 'phone' })
})

test('redrive sends a compensated saga forward again, cancel turns one back', async () => {
  const shop = await openShop()
  broken.release = false
  const handle = await shop.orchestrator.run(order, { sku: 'rope' }, { id: 'again' })
  expect((await handle.settled()).status).toBe('compensated')
  broken.charge = false
  const { lines, code } = await shop.sagas('redrive', 'again', '--from', 'reserve', ...BY)
  expect([code, lines[0]]).toEqual([0, expect.stringMatching(/^redrive: taken; again is \w+ \(was compensated\)$/)])
  await expect.poll(async () => (await shop.store.read('again'))?.status).toBe('completed')
  expect((await shop.sagas('again')).lines.join('\n')).toMatch(/redrive reserve {2}by ada/)

  await shop.orchestrator.run(letter, undefined, { id: 'unwanted' })
  await expect.poll(async () => (await shop.store.read('unwanted'))?.status).toBe('waiting')
  expect((await shop.sagas('cancel', 'unwanted', ...BY)).code).toBe(0)
  await expect.poll(async () => (await shop.store.read('unwanted'))?.status).toBe('compensated')
})

test('a saga that was moved to another version is told with its history, and without what that version has not', async () => {
  const shop = await openShop()
  await shop.orchestrator.run(letter, undefined, { id: 'moved' })
  await expect.poll(async () => (await shop.store.read('moved'))?.status).toBe('waiting')
  const next = saga('letter', { version: 3 })
    .step('print', { run: () => 'printed' })
    .waitFor('stamp', approved)
    .build()
  await shop.orchestrator.migrate('moved', { to: next, by: { who: 'ada', why: 'needs no approval' } })
  await using orchestrator = new SagaOrchestrator({ store: shop.store, sagas: [next], pollMs: 20 })
  orchestrator.start()
  await expect.poll(async () => (await orchestrator.get('moved'))?.nodes[1]?.status).toBe('waiting')
  const text = (await shop.sagas('moved')).lines.join('\n')
  expect(text).toMatch(/^moved {2}letter@3 {2}waiting/)
  expect(text).toMatch(/print .*printed/)
  expect(text).not.toMatch(/approval {2}/)
  expect(text).toMatch(/migrate from version 2 to 3 {2}by ada {2}carried out {2}needs no approval/)
})

test('an order that the orchestrator refuses is told as refused, and kept in the history', async () => {
  const shop = await openShop()
  await parked(shop)
  const refused = await shop.sagas('redrive', 'order-1', '--from', 'nowhere', ...BY)
  expect(refused).toMatchObject({
    code: 1,
    lines: [],
    complaints: 'holdfast sagas: redrive of "order-1" had no effect: it did not fit; the saga is still parked',
  })
  expect((await shop.sagas('order-1')).lines.at(-1)).toMatch(
    /redrive nowhere {2}by ada {2}did not fit: nothing followed/,
  )
})

test('an order that nobody takes in time stays in the inbox, and that is said', async () => {
  const shop = await openShop()
  await parked(shop)
  await shop.orchestrator.close()
  const late = await shop.sagas('skip', 'order-1', 'reserve', '--timeout', '1', ...BY)
  expect(late).toMatchObject({ code: 1, lines: [] })
  expect(late.complaints).toContain("no orchestrator has taken it within 1 s. The order stays in the saga's inbox")
  expect((await shop.sagas('order-1')).lines.at(-1)).toContain('skip reserve')
  const stop = new AbortController()
  const left = holdfast(['sagas', 'retry', 'order-1', '--schema', shop.schema, ...BY], { end: stop.signal })
  await expect.poll(async () => (await shop.store.read('order-1'))?.lastMessage).toBe(2)
  stop.abort()
  expect(await left).toMatchObject({ code: 1, complaints: expect.stringContaining('stays in') as string })
  const second = new SagaOrchestrator({ store: shop.store, sagas: [order], pollMs: 20 })
  onTestFinished(() => second.close())
  second.start()
  await expect.poll(async () => (await shop.store.read('order-1'))?.status).toBe('compensated')
})

test('an order is confirmed first: what it is about is told, and any answer but yes leaves it', async () => {
  const shop = await openShop()
  await parked(shop)
  let question = ''
  const say = (answer: string) => (text: string) => {
    question = text
    return Promise.resolve(answer)
  }
  const args = ['sagas', 'skip', 'order-1', 'reserve', '--by', 'ada', '--schema', shop.schema]
  const no = await holdfast(args, { ask: say('') })
  expect(no).toMatchObject({ code: 1, lines: [], complaints: 'holdfast sagas: left as it is' })
  expect(question).toBe(
    'skip reserve of order-1 (order@1, parked), as ada?\nIt turned back: TypeError: over the limit\n[y/N] ',
  )
  expect((await shop.store.read('order-1'))?.lastMessage).toBe(0)
  expect((await holdfast(args)).complaints).toBe('holdfast sagas: nobody is there to be asked: give --yes')
  const settles = async (): Promise<string> => {
    await shop.orchestrator.skip('order-1', 'reserve', 'eve')
    await expect.poll(async () => (await shop.store.read('order-1'))?.status).toBe('compensated')
    return 'y'
  }
  expect((await holdfast(args, { ask: settles })).complaints).toBe(
    'holdfast sagas: "order-1" is compensated: skip needs a parked saga',
  )
  await parked(shop, 'order-2')
  const other = args.map((arg) => (arg === 'order-1' ? 'order-2' : arg))
  expect((await holdfast(other, { ask: say('Yes') })).code).toBe(0)
})

test('mistakes are told in one line and with the right code, and change nothing', async () => {
  const shop = await openShop()
  await parked(shop)
  broken.release = false
  const handle = await shop.orchestrator.run(order, { sku: 'rope' }, { id: 'undone' })
  expect((await handle.settled()).status).toBe('compensated')
  const at = ['--schema', shop.schema]
  const wrong: [args: string[], code: number, says: string | RegExp][] = [
    [
      ['--status', 'lost'],
      2,
      '--status: expected running, waiting, compensating, completed, compensated, parked, got "lost"',
    ],
    [['--limit', '0'], 2, '--limit: expected an integer ≥ 1, got "0"'],
    [['--stuck-for', '5m'], 2, '--stuck-for: expected an integer ≥ 0, got "5m"'],
    [['--mermaid'], 2, '--mermaid does not go with a list'],
    [['order-1', '--by', 'ada'], 2, '--by does not go with show'],
    [['order-1', '--json', '--mermaid'], 2, '--mermaid goes without --json'],
    [['order-1', 'order-2'], 2, 'show takes one id, not also order-2'],
    [['list', 'order-1'], 2, 'list takes no id, not order-1'],
    [['show'], 2, 'show: of which saga? Give its id'],
    [['skip', 'order-1', ...BY], 2, 'skip: which node? Give its path'],
    [['skip', 'order-1', 'a', 'b', ...BY], 2, 'skip takes an id and a path, not also b'],
    [['retry', 'order-1', '--yes'], 2, "retry: --by WHO is kept in the saga's history; give it"],
    [['cancel', 'order-1', '--by', 'ada', '--yes'], 2, 'cancel: --why TEXT is what the saga turns back for'],
    [['redrive', 'order-1', ...BY], 2, 'redrive: from which node on? Give --from NODE'],
    [['redrive', 'order-1', '--from', 'checks/credit', ...BY], 2, '--from: a node of the top level'],
    [['resolve', 'order-1', 'reserve', '--result', '{', ...BY], 2, '--result: expected JSON, got "{"'],
    [['--what'], 2, "Unknown option '--what'"],
    [['--redis-url', 'redis://localhost', '--schema', 'x'], 2, '--schema goes without --redis-url'],
    [['--prefix', 'x'], 2, '--prefix goes with --redis-url'],
    [['gone', ...at], 1, 'there is no saga "gone"'],
    [['retry', 'gone', ...BY, ...at], 1, 'there is no saga "gone"'],
    [['skip', 'order-1', 'charge', ...BY, ...at], 1, 'it does not wait for "charge", but for reserve'],
    [['retry', 'undone', ...BY, ...at], 1, '"undone" is compensated: retry needs a parked saga'],
    [['cancel', 'undone', ...BY, ...at], 1, '"undone" is compensated: cancel comes too late'],
    [['cancel', 'order-1', ...BY, ...at], 1, '"order-1" is parked: it has turned back already'],
    [['--schema', 'gone'], 1, /PostgreSQL: .*gone/],
    [['--redis-url', 'redis://127.0.0.1:1'], 1, 'Redis: connect ECONNREFUSED'],
  ]
  for (const [args, code, says] of wrong) {
    const ended = await holdfast(['sagas', ...args])
    expect(ended.complaints, args.join(' ')).toMatch(says)
    expect(ended.complaints.split('\n'), args.join(' ')).toHaveLength(1)
    expect(ended.code, args.join(' ')).toBe(code)
    expect(ended.lines).toEqual([])
  }
  expect((await shop.store.read('order-1'))?.lastMessage).toBe(0)
  expect(await holdfast(['sagas'], { env: {} })).toMatchObject({
    code: 2,
    complaints: 'holdfast sagas: no sagas: give --database-url or --redis-url, or set DATABASE_URL',
  })
  expect((await holdfast(['sagas', '--help'])).lines[0]).toMatch(/^Usage: holdfast sagas /)
})
