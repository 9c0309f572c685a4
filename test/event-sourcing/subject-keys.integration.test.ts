import { expect, test } from 'vitest'
import { catalogued, type Event, type EventStore } from '../../src/event-sourcing/index.js'
import { PostgresSubjectKeys } from '../../src/event-sourcing/postgres.js'
import { randomId } from '../../src/kernel/random.js'
import { subjectKeysContract } from '../conformance/subject-keys.js'
import { list, openPool, openStore } from './database.js'

const pool = openPool()
const masterKey = new Uint8Array(32).fill(7)

for (const options of [{}, { masterKey }]) {
  subjectKeysContract(`PostgreSQL${'masterKey' in options ? ' with a master key' : ''}`, async () => {
    const schema = `es_${randomId()}`
    const open = () => new PostgresSubjectKeys(pool, { schema, ...options })
    const keys = open()
    await keys.migrate()
    return {
      keys,
      elsewhere: open(),
      close: async () => void (await pool.query(`drop schema "${schema}" cascade`)),
    }
  })
}

test('with a master key, the table tells nothing; without it or with another the keys can’t be had', async () => {
  const { schema } = await openStore(pool)
  const plain = new PostgresSubjectKeys(pool, { schema })
  const wrapping = new PostgresSubjectKeys(pool, { schema, masterKey })
  const before = await plain.ensure('before')
  const key = await wrapping.ensure('a')
  const { rows } = await pool.query(
    `select encode(key, 'hex') as key from "${schema}".es_subject_keys where subject = 'a'`,
  )
  expect(rows[0].key).not.toContain(Buffer.from(key).toString('hex'))
  for (const other of [plain, new PostgresSubjectKeys(pool, { schema, masterKey: new Uint8Array(32) })]) {
    await expect(other.get(['a'])).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    await expect(other.ensure('a')).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
  }
  await pool.query(`update "${schema}".es_subject_keys set subject = 'b' where subject = 'a'`)
  await expect(wrapping.get(['b'])).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
  expect(Buffer.from(await wrapping.ensure('before')).equals(before)).toBe(true)
  expect(() => new PostgresSubjectKeys(pool, { masterKey: new Uint8Array(31) })).toThrow(/masterKey/)
})

type Registered = Event<'Registered', { readonly id: string; readonly email: string | undefined }>

test('in PostgreSQL a personal field is not to be found in the tables, and after shredding nowhere', async () => {
  const { store, schema } = await openStore(pool)
  const keys = new PostgresSubjectKeys(pool, { schema, masterKey })
  const people: EventStore<Registered> = catalogued<Registered>(
    store,
    { Registered: { personal: { subject: (d) => d.id, fields: ['email'] } } },
    { keys },
  )
  await people.append('p-1', [{ type: 'Registered', data: { id: '1', email: 'ann@example.org' } }])
  const { rows } = await pool.query(`select data::text || meta::text as text from "${schema}".es_events`)
  expect(rows[0].text).not.toContain('ann')
  expect((await list(people.read('p-1'))).map((e) => e.data.email)).toEqual(['ann@example.org'])
  await keys.shred('1')
  expect((await list(people.readAll())).map((e) => e.data)).toEqual([{ id: '1', email: undefined }])
})
