import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { expect, inject, onTestFinished, test } from 'vitest'
import { run } from '../../src/cli/run.js'
import type { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { RedisEventStore } from '../../src/event-sourcing/redis.js'
import { openPool, openStore } from '../event-sourcing/database.js'

const pool = openPool()
const url = inject('postgresUrl')

/** Three orders, the first with two events. */
async function openShop(): Promise<{ store: PostgresEventStore; schema: string }> {
  const { store, schema } = await openStore(pool)
  await store.append('order-1', [{ type: 'Placed', data: { cents: 900 }, tags: ['customer:7'] }])
  await store.append('order-2', [{ type: 'Placed', data: { at: new Date(0) } }])
  await store.append('order-1', [{ type: 'Paid', data: { by: 'card\u001b[31m\u009b' } }])
  await store.append('order three', [{ type: 'Placed', data: null, tags: ['customer:7', 'gift'] }])
  return { store, schema }
}

interface Ended {
  readonly code: number
  readonly lines: readonly string[]
  readonly complaints: string
}

async function holdfast(
  args: readonly string[],
  { columns = Infinity, env = { DATABASE_URL: url } } = {},
): Promise<Ended> {
  const lines: string[] = []
  const complaints: string[] = []
  const { signal } = new AbortController()
  const out = (line: string): void => void lines.push(line)
  const err = (line: string): void => void complaints.push(line)
  const code = await run(args, { out, err, columns, env, signal })
  return { code, lines, complaints: complaints.join('\n') }
}

/** Without positions and times, which differ from run to run. */
const plain = (lines: readonly string[]): string[] => lines.map((line) => line.replace(/^ *\d+ {2}\S+ {2}/, ''))

test('events lists the last of the log, by type and tag too, in one line each that no event can break', async () => {
  const { schema } = await openShop()
  const { code, lines } = await holdfast(['events', '--schema', schema])
  expect(code).toBe(0)
  expect(plain(lines)).toEqual([
    `order-1@1  Placed  { cents: 900 } ["customer:7"]`,
    'order-2@1  Placed  { at: 1970-01-01T00:00:00.000Z }',
    String.raw`order-1@2  Paid  { by: 'card\x1B[31m\x9B' }`,
    `"order three"@1  Placed  null ["customer:7" "gift"]`,
  ])
  const of = async (...args: string[]) => plain((await holdfast(['events', '--schema', schema, ...args])).lines)
  expect(await of('--limit', '1')).toEqual(plain(lines.slice(3)))
  expect(await of('--type', 'Paid', '--type', 'Gone')).toEqual(plain(lines.slice(2, 3)))
  expect(await of('--tag', 'customer:7', '--tag', 'gift')).toEqual(plain(lines.slice(3)))
  expect(await of('--after', '0', '--limit', '2')).toEqual(plain(lines.slice(0, 2)))
})

test('events of a stream, within bounds, as JSON, cut to the width of the terminal', async () => {
  const { schema } = await openShop()
  const of = (...args: string[]) => holdfast(['events', 'order-1', '--schema', schema, ...args])
  expect(plain((await of()).lines)).toHaveLength(2)
  expect(plain((await of('--to', '1')).lines)).toEqual([`order-1@1  Placed  { cents: 900 } ["customer:7"]`])
  expect((await of('--as-of', '2001-01-01')).lines).toEqual([])
  const [json] = (await of('--json', '--limit', '1')).lines
  expect(JSON.parse(json as string)).toMatchObject({
    streamId: 'order-1',
    version: 2,
    data: { by: 'card\u001b[31m\u009b' },
  })
  const { lines } = await holdfast(['events', 'order-1', '--schema', schema], { columns: 40 })
  expect(lines.map((line) => line.length)).toEqual([40, 40])
})

test('states stand side by side, and what changed is marked', async () => {
  const { schema } = await openShop()
  const of = (...args: string[]) => holdfast(['events', 'order-1', '--schema', schema, '--state', ...args])
  expect((await of('test/cli/order.ts#Order')).lines).toEqual([
    '               version 1    version 2',
    `id             '1'          '1'`,
    `state          'Placed'   * 'Paid'`,
    'total.cents    900          900',
  ])
  expect((await of('test/cli/order.ts#order', '--at', '0,1, 2001-01-01')).lines).toEqual([
    '         version 0    version 1    2001-01-01 (version 0)',
    'count    0          * 1          * 0',
  ])
})

test('a state of any shape can be shown, and a stream of any name', async () => {
  const { store, schema } = await openShop()
  const of = (...args: string[]) => holdfast(['events', '--schema', schema, ...args])
  const { lines } = await of('order-1', '--state', 'test/cli/order.ts#knot', '--at', '1')
  expect(lines).toEqual([
    '                 version 1',
    `all              Map(1) { 'a' => Set(1) { 1 } }`,
    String.raw`"a\n\u009b".b    1`,
    expect.stringContaining('<ref *1>'),
  ])
  expect((await of('order-1', '--state', 'test/cli/order.ts#wide', '--at', '1')).lines).toHaveLength(150_001)
  const odd = 'a%zz\u009b-1'
  await store.append(odd, [{ type: 'Placed', data: 1 }])
  const missed = await of(odd, '--state', 'test/cli/order.ts#Order')
  expect(missed).toMatchObject({ code: 2, complaints: expect.stringContaining('no stream of a repository') })
  expect(plain((await of(odd)).lines)).toEqual([String.raw`"a%zz\u009b-1"@1  Placed  1`])
  await store.append('a%252D-1', [{ type: 'Placed', data: { cents: 5 } }]) // category `a%2D`
  expect((await of('a%252D-1', '--state', 'test/cli/order.ts#Order', '--at', '1')).lines.at(-1)).toMatch(/cents +5$/)
})

test('the last events of a type are found, however far back they are', async () => {
  const { store, schema } = await openShop()
  for (let i = 0; i < 50; i++) await store.append('many', [{ type: 'Many', data: i }])
  for (let i = 0; i < 30; i++) await store.append('other', [{ type: 'Other', data: i }])
  const { lines } = await holdfast(['events', '--schema', schema, '--type', 'Many', '--limit', '3'])
  expect(plain(lines)).toEqual([47, 48, 49].map((n) => `many@${n + 1}  Many  ${n}`))
})

test('a log on Redis', async () => {
  const redis = new Redis(inject('redisUrl'))
  onTestFinished(() => redis.disconnect())
  const namespace = `cli:${crypto.randomUUID()}:`
  const store = new RedisEventStore(redis, { namespace })
  await store.append('order-1', [{ type: 'Placed', data: { cents: 900 }, tags: ['customer:7'] }])
  await store.append('order-1', [{ type: 'Paid', data: { by: 'card' } }])
  const args = ['--redis-url', inject('redisUrl'), '--namespace', namespace]
  const of = async (...more: string[]) => (await holdfast(['events', ...args, ...more], { env: {} as never })).lines
  expect(plain(await of())).toEqual([
    `order-1@1  Placed  { cents: 900 } ["customer:7"]`,
    `order-1@2  Paid  { by: 'card' }`,
  ])
  expect(plain(await of('order-1', '--from', '2'))).toHaveLength(1)
  expect(await of('order-1', '--state', 'test/cli/order.ts#Order')).toContain(`state          'Placed'   * 'Paid'`)
  const { child, line } = follow(['events', ...args, '--limit', '1', '--follow'])
  expect(await line()).toContain('order-1@2')
  await store.append('order-2', [{ type: 'Placed', data: {} }])
  expect(await line()).toContain('order-2@1  Placed')
  child.kill('SIGINT')
  expect(await ended(child)).toBe(0)
})

test('it ends when it is interrupted, whatever hangs, and when it is done, whatever is open', async () => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1')
  onTestFinished(() => void silent.close())
  const connected = new Promise((resolve) => silent.once('connection', resolve))
  await new Promise((resolve) => silent.once('listening', resolve))
  const { port } = silent.address() as AddressInfo
  const hanging = follow(['events', '--redis-url', `redis://127.0.0.1:${port}`])
  await connected
  hanging.child.kill('SIGINT')
  expect(await ended(hanging.child)).toBe(0)

  const { schema } = await openShop()
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const open =
    'export const open = { initial: () => 0, decide: () => [], evolve: (n) => n + 1 }; setInterval(() => {}, 1e6)'
  writeFileSync(join(folder, 'open.mjs'), open)
  const { child, line } = follow([
    'events',
    'order-1',
    '--schema',
    schema,
    '--state',
    `${join(folder, 'open.mjs')}#open`,
  ])
  expect(await line()).toContain('version 1')
  expect(await ended(child)).toBe(0)
})

test('what can’t be understood or done is said, with a code for each', async () => {
  const { schema } = await openShop()
  const wrong: [args: string[], code: number, says: string | RegExp][] = [
    [['nothing'], 2, 'no command "nothing"'],
    [['events', '--limit', 'x'], 2, '--limit: expected an integer ≥ 1, got "x"'],
    [['events', 's', '--as-of', 'noon'], 2, '--as-of: expected a date'],
    [['events', '--from', '1'], 2, '--from goes with a stream'],
    [['events', 's', '--tag', 'x'], 2, '--tag goes without a stream'],
    [['events', 's', '--at', '1'], 2, '--at goes with --state'],
    [['events', 'a', 'b'], 2, 'one stream, not 2: a b'],
    [['events', 's', '--state', 'x', '--json'], 2, '--json goes without --state'],
    [['events', 's', '--follow', '--to', '1'], 2, '--to goes without --follow'],
    [['events', '--database-url', 'localhost:5432/shop'], 2, '--database-url (or DATABASE_URL): expected postgres://'],
    [['events', '--what'], 2, "Unknown option '--what'"],
    [['events', '--namespace', 'x'], 2, '--namespace goes with --redis-url'],
    [['events', '--redis-url', 'redis://localhost', '--schema', 'x'], 2, '--schema goes without --redis-url'],
    [['events', '--redis-url', 'redis://127.0.0.1:1'], 1, 'Redis: connect ECONNREFUSED'],
    [['events', 'none', '--schema', schema], 1, 'there is no stream "none"'],
    [['events', 'none-1', '--schema', schema, '--state', 'test/cli/order.ts#Order'], 1, 'there is no stream "none-1"'],
    [['events', 'order-1', '--schema', schema, '--state', 'test/cli/order.ts#Gone'], 2, 'exports no aggregate class'],
    [['events', 'order-1', '--schema', schema, '--state', 'gone.js'], 1, "can't import gone.js"],
    [['events', '--schema', 'gone'], 1, /PostgreSQL: .*gone/],
  ]
  for (const [args, code, says] of wrong) {
    const ended = await holdfast(args)
    expect(ended.complaints, args.join(' ')).toMatch(says)
    expect(ended.code, args.join(' ')).toBe(code)
    expect(ended.lines).toEqual([])
  }
  const ended = await holdfast(['events'], { env: {} as never })
  expect(ended).toMatchObject({
    code: 2,
    complaints: 'holdfast events: no log: give --database-url or --redis-url, or set DATABASE_URL',
  })
  for (const args of [[], ['-h'], ['events', '--help']])
    expect((await holdfast(args)).lines[0]).toMatch(/^Usage: holdfast /)
})

test('--follow goes on with what is appended, until it is interrupted', async () => {
  const { store, schema } = await openShop()
  for (const args of [
    ['events', '--limit', '1'],
    ['events', 'order-1', '--limit', '1'],
  ]) {
    const { child, line } = follow([...args, '--schema', schema, '--follow'])
    expect(await line()).toContain(args.includes('order-1') ? 'order-1@3' : '"order three"@1')
    const { version } = await store.append('order-1', [{ type: 'Paid', data: {} }])
    expect(await line()).toContain(`order-1@${version}  Paid`)
    child.kill('SIGINT')
    expect(await ended(child)).toBe(0)
  }
})

/** Its exit code, or what killed it. */
const ended = (child: ChildProcess): Promise<unknown> =>
  child.exitCode === null
    ? new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal)))
    : Promise.resolve(child.exitCode)

/** The command in a process of its own. `line`: its next line. */
function follow(args: readonly string[]): { child: ChildProcess; line: () => Promise<string> } {
  const child = spawn(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', ...args], {
    env: { ...process.env, DATABASE_URL: url },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const lines = child.stdout.setEncoding('utf8').iterator({ destroyOnReturn: false })
  let rest = ''
  const line = async (): Promise<string> => {
    while (!rest.includes('\n')) rest += (await lines.next()).value
    const end = rest.indexOf('\n')
    const next = rest.slice(0, end)
    rest = rest.slice(end + 1)
    return next
  }
  return { child, line }
}
