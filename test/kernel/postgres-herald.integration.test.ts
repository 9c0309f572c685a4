import { EventEmitter } from 'node:events'
import pg from 'pg'
import { expect, inject, onTestFinished, test, vi } from 'vitest'
import { Herald, type SqlListener } from '../../src/kernel/postgres-herald.js'
import { Proxy } from '../support/proxy.js'

/** A listener that makes a new connection when its last one has ended, as those do that services use. */
async function reconnecting(port: number) {
  const url = new URL(inject('postgresUrl'))
  url.port = String(port)
  const events = new EventEmitter()
  let current: Promise<pg.Client> | undefined
  const connect = async (): Promise<pg.Client> => {
    const client = new pg.Client(url.href)
    const gone = (): void => void (current = undefined)
    client.on('error', gone).on('end', gone)
    client.on('notification', (message) => events.emit('notification', message))
    await client.connect().catch((error: unknown) => {
      gone()
      throw error
    })
    return client
  }
  const listener = Object.assign(events, {
    query: async (text: string) => (await (current ??= connect())).query(text),
  })
  await listener.query('select 1')
  return { listener: listener as unknown as SqlListener, close: async () => (await current)?.end() }
}

test('a connection that is cut while LISTEN is sent costs no more than time: what is told is heard when there is one again', async () => {
  const pool = new pg.Pool({ connectionString: inject('postgresUrl'), max: 1 })
  const proxy = await Proxy.to(Number(new URL(inject('postgresUrl')).port))
  const { listener, close } = await reconnecting(proxy.port)
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const heard: unknown[] = []
  const herald = new Herald(pool, listener, true, 'cut', (notes) => heard.push(notes))
  onTestFinished(async () => {
    herald.stop()
    warned.mockRestore()
    await close()
    proxy.close()
    await pool.end()
  })

  proxy.set('silent') // LISTEN is on its way when the line is cut
  herald.listen()
  proxy.set('cut')
  await expect.poll(() => warned.mock.calls.length).toBe(1)
  herald.tell('lost')
  proxy.set('open')
  await expect.poll(() => heard).toEqual([undefined]) // something may have been told
  herald.tell('heard')
  await expect.poll(() => heard).toEqual([undefined, ['heard']])
  expect(warned).toHaveBeenCalledTimes(1)
})
