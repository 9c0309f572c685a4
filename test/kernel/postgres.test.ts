import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { fromSqlText, queryRows, toSqlText, transaction, type SqlQueryable } from '../../src/kernel/postgres.js'
import { sqlIdentifier, sqlLiteral } from '../../src/kernel/postgres-schema.js'
import { fc, prop } from '../support/prop.js'

/** A connection that notes what it is told, and fails where it is told to. */
function connection(failAt?: string) {
  const told: string[] = []
  const client: SqlQueryable = {
    async query(text) {
      told.push(text)
      await Promise.resolve()
      if (text === failAt) throw new Error(`no ${text}`)
      return { rows: [{ text }] }
    },
  }
  return { told, client }
}

function poolOf({ client, told }: ReturnType<typeof connection>) {
  const released: unknown[] = []
  const pool = {
    ...client,
    totalCount: 0,
    connect: async () => ({ ...client, release: (e?: unknown) => void released.push(e) }),
  }
  return { pool, told, released }
}

test('a transaction commits what resolves, and gives its result', async () => {
  const { pool, told, released } = poolOf(connection())
  expect(await transaction(pool, async (tx) => (await tx.query('work')).rows)).toEqual([{ text: 'work' }])
  expect([told, released]).toEqual([['BEGIN', 'work', 'COMMIT'], [undefined]])
})

test('a transaction rolls back what rejects, and throws the same object', async () => {
  const { pool, told, released } = poolOf(connection())
  const boom = new Error('boom')
  await expect(transaction(pool, () => Promise.reject(boom))).rejects.toBe(boom)
  expect([told, released]).toEqual([['BEGIN', 'ROLLBACK'], [undefined]])
})

test('a connection that can’t roll back or commit is not given back for use', async () => {
  for (const statement of ['ROLLBACK', 'COMMIT']) {
    const { pool, released } = poolOf(connection(statement))
    await expect(
      transaction(pool, statement === 'COMMIT' ? async () => {} : () => Promise.reject(new Error('x'))),
    ).rejects.toThrow()
    expect(released).toMatchObject([{ message: `no ${statement}` }])
  }
})

test('on a single connection transactions and statements take turns', async () => {
  const { client, told } = connection()
  await Promise.all([
    transaction(client, async (tx) => {
      await queryRows(tx, 'a1')
      await queryRows(tx, 'a2')
    }),
    queryRows(client, 'between'),
    transaction(client, () => Promise.reject(new Error('undone'))).catch(() => {}),
    transaction(client, (tx) => queryRows(tx, 'b')),
  ])
  expect(told).toEqual(['BEGIN', 'a1', 'a2', 'COMMIT', 'between', 'BEGIN', 'ROLLBACK', 'BEGIN', 'b', 'COMMIT'])
})

test('an error of the driver comes out as a StoreError with its cause', async () => {
  const { client } = connection('bad')
  await expect(queryRows(client, 'bad')).rejects.toMatchObject({ code: 'STORE_FAILED', cause: { message: 'no bad' } })
  expect(await queryRows(client, 'good')).toEqual([{ text: 'good' }])
})

prop(
  'any string becomes text that PostgreSQL holds, and comes back',
  [
    fc.string({
      unit: fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('\\', '\0', '\ud800', '\udc00', '"', '\\u0000', '\n'),
      ),
    }),
  ],
  (text) => {
    const kept = toSqlText(text)
    expect(kept.includes('\0')).toBe(false)
    expect(Buffer.from(kept).toString()).toBe(kept)
    expect(fromSqlText(kept)).toBe(text)
  },
)

prop(
  'no two strings become one text',
  [
    fc.string({ unit: fc.constantFrom('\\', 'u', '0', '\0', '\ud800', '"', 'x') }),
    fc.string({ unit: fc.constantFrom('\\', 'u', '0', '\0', '\ud800', '"', 'x') }),
  ],
  (a, b) => {
    expect(toSqlText(a) === toSqlText(b)).toBe(a === b)
  },
)

test('most strings are kept as they are', () => {
  for (const text of ['order-1', 'say "hi"', 'é🚀\n', '']) expect(toSqlText(text)).toBe(text)
})

test('names are quoted, and what can’t be a name is refused', () => {
  expect(sqlIdentifier('schema', 'a"b')).toBe('"a""b"')
  expect(sqlLiteral("it's")).toBe("'it''s'")
  for (const name of ['', 'é'.repeat(32), 'a\0']) expect(() => sqlIdentifier('schema', name)).toThrow(/schema/)
})

test('a connection on which BEGIN fails is not given back for use: it may still begin later', async () => {
  const { pool, released } = poolOf(connection('BEGIN'))
  let ran = false
  await expect(transaction(pool, async () => (ran = true))).rejects.toThrow('no BEGIN')
  expect([ran, released]).toMatchObject([false, [{ message: 'no BEGIN' }]])
})

test('a connection that dies under way is listened to, and closed', async () => {
  const released: unknown[] = []
  const client = Object.assign(new EventEmitter(), {
    query: async () => ({ rows: [] }),
    release: (error?: unknown) => void released.push(error),
  })
  const dead = new Error('terminated')
  const pool = { query: client.query, totalCount: 1, connect: async () => client }
  await transaction(pool, async () => client.emit('error', dead))
  expect(released).toEqual([dead])
  expect(client.listenerCount('error')).toBe(0)
})
