import { expect, test } from 'vitest'
import { z } from 'zod'
import { checkSchema, validate } from '../../src/kernel/schema.js'

const order = z.object({
  id: z.string(),
  items: z.array(z.object({ qty: z.number().int() })),
  at: z.coerce.date().optional(),
})

test('a valid payload comes back as the schema gives it', async () => {
  const back = await validate(order, { id: 'a', items: [], at: '2026-01-01T00:00:00Z' }, 'order')
  expect(back.at).toEqual(new Date('2026-01-01T00:00:00Z'))
})

test('without a schema the payload comes back unchanged', async () => {
  const payload = { any: 'thing' }
  expect(await validate(undefined, payload, 'order')).toBe(payload)
})

test('an invalid payload is refused with every issue and its path', async () => {
  const refused = validate(order, { id: 1, items: [{ qty: 1.5 }] }, `command 'PlaceOrder'`)
  await expect(refused).rejects.toMatchObject({
    code: 'INVALID_PAYLOAD',
    message: expect.stringMatching(/^command 'PlaceOrder' is not valid: id: .*; items\.0\.qty: /),
    issues: [{ path: ['id'] }, { path: ['items', 0, 'qty'] }],
  })
})

test('a Standard Schema may be a function; anything that cannot validate is refused', () => {
  const callable = Object.assign(() => 1, { '~standard': order['~standard'] })
  expect(checkSchema('schema', callable)).toBe(callable)
  expect(checkSchema('schema', order)).toBe(order)
  for (const wrong of [undefined, null, 5, {}, () => 1, { '~standard': {} }, { '~standard': null }])
    expect(() => checkSchema('schema', wrong)).toThrow(/^schema: expected a Standard Schema, got /)
})
