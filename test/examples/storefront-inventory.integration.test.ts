import { expect, test } from 'vitest'
import { PostgresInventory } from '../../examples/storefront/inventory-postgres.js'
import { until } from '../support/until.js'
import { ownDatabase } from './own-database.js'

test('what is given back while it is still being set aside stands on its shelf again', async () => {
  const { pool } = await ownDatabase()
  await pool.query('create schema storefront')
  const room = new PostgresInventory(pool)
  await room.migrate()
  const count = async (query: string): Promise<number> => (await pool.query<{ n: number }>(query)).rows[0]!.n
  const onShelf = (): Promise<number> => count(`select available as n from storefront.stock where sku = 'rope'`)
  const before = await onShelf()
  const tx = await pool.connect()
  await tx.query('begin')
  await room.reserve('o-1', [{ sku: 'rope', quantity: 1 }], tx)
  const released = room.release('o-1') // the customer cancels
  const waits = `select count(*)::int as n from pg_locks where not granted`
  await until(async () => (await count(waits)) > 0)
  await tx.query('commit')
  tx.release()
  expect(await released).toBe(true)
  expect([await onShelf(), await room.held]).toEqual([before, 0])
  expect([await room.release('o-1'), await onShelf()]).toEqual([true, before]) // once
  expect(await room.release('o-2')).toBe(false)
  await expect(room.reserve('o-2', [{ sku: 'rope', quantity: 1 }])).rejects.toThrow('cancelled meanwhile')
})
