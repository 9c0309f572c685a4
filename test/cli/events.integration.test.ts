import { spawn, type ChildProcess } from 'node:child_process'
import { expect, inject, onTestFinished, test } from 'vitest'
import { run } from '../../src/cli/run.js'
import type { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
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
    [['events', '--what'], 2, "Unknown option '--what'"],
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
    complaints: 'holdfast events: no database: give --database-url, or set DATABASE_URL',
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
    expect(await new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal)))).toBe(0)
  }
})

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
