import { expect, onTestFinished, test } from 'vitest'
import { readOptions, UsageError } from '../../examples/storefront/options.js'
import { until } from '../support/until.js'
import { openStorefront } from './storefront-client.js'

/** What this process has open to the world. */
const open = (): number =>
  process.getActiveResourcesInfo().filter((it) => /^(TCPServerWrap|TCPSocketWrap|Timeout)$/.test(it)).length

test(
  'the built-in load shops, one user is refused, and closing ends it all, pages that watch included',
  { timeout: 60_000 },
  async () => {
    const before = open()
    const shop = await openStorefront({ load: true, ordersPerSecond: 20, payment: { timeoutMs: 20_000 } })
    onTestFinished(() => shop.storefront.close()) // or its load goes on under the tests that follow in this process
    const { limiter } = shop.storefront.shop
    const watching = (await fetch(new URL('/live', shop.storefront.url))).body?.getReader()
    const following = (await fetch(new URL('/events/live', shop.storefront.url))).text()
    const decoder = new TextDecoder()
    let text = ''
    let hit = false
    const snapshot = await until(async () => {
      while ((await limiter.consume('greedy')).allowed); // so that however slow the machine is, the greedy one is too quick
      text += decoder.decode((await watching?.read())?.value)
      const events = text.split('\n\n')
      const last = JSON.parse(events.at(-2)?.slice('data: '.length) ?? '{}')
      hit ||= last.cache?.l1 > 0
      return hit && last.totals.completed > 5 && last.limiter.refused > 0 ? last : undefined
    })
    expect(snapshot).toMatchObject({
      breaker: { state: 'closed' },
      limiter: { most: { userId: 'greedy' } },
      switches: { load: true, ordersPerSecond: 20 },
      about: { events: 'memory', buckets: 'memory', cache: 'memory' },
    })
    await shop.switch({ payment: 'hang' })
    const began = Date.now()
    await shop.storefront.close()
    expect(Date.now() - began).toBeLessThan(4_000)
    let end = await watching?.read()
    // oxlint-disable-next-line no-await-in-loop -- what was still sent, then the end: not a cut
    while (end?.done === false) end = await watching?.read()
    expect(end?.done).toBe(true)
    expect(await following).toContain('"type":"OrderShipped"') // it has come to its end, too
    await expect(shop.get('/health')).rejects.toThrow('fetch failed')
    await until(() => open() <= before)
  },
)

test('a port that is taken is passed over, and the user is told', async () => {
  const first = await openStorefront()
  onTestFinished(() => first.storefront.close())
  const { startStorefront } = await import('../../examples/storefront/storefront.js')
  const wanted = Number(new URL(first.storefront.url).port)
  const lines: string[] = []
  const second = await startStorefront(
    { host: '127.0.0.1', port: wanted, checkout: 'choreographed', load: false, ordersPerSecond: 1 },
    (line) => lines.push(line),
  )
  onTestFinished(() => second.close())
  expect(Number(new URL(second.url).port)).not.toBe(wanted)
  expect(lines).toEqual([`storefront: port ${wanted} is taken, so it is ${new URL(second.url).port}`])
})

test('an address that can not be had is an error, and nothing stays open', async () => {
  const before = open()
  await expect(openStorefront({ host: '192.0.2.1' })).rejects.toThrow('EADDRNOTAVAIL')
  await expect(openStorefront({ redis: 'redis://127.0.0.1:1' })).rejects.toThrow(
    /^Redis at redis:\/\/127.0.0.1:1 can't be used: .*ECONNREFUSED/,
  )
  await expect(openStorefront({ postgres: 'postgres://me:secret@127.0.0.1:1/x' })).rejects.toThrow(
    /^PostgreSQL at postgres:\/\/me:…@127.0.0.1:1\/x can't be used: .*ECONNREFUSED/,
  )
  await until(() => open() <= before)
})

test('the command line is read strictly', () => {
  expect(readOptions([])).toEqual({
    host: '127.0.0.1',
    port: 3000,
    redis: undefined,
    postgres: undefined,
    readPostgres: undefined,
    rabbitmq: undefined,
    payment: { timeoutMs: 800 },
    checkout: 'orchestrated',
    load: true,
    ordersPerSecond: 5,
  })
  expect(readOptions(['--help'])).toBe('help')
  expect(readOptions(['--postgres', 'postgres://h/x', '--read-postgres', 'postgresql://h/y'])).toMatchObject({
    postgres: 'postgres://h/x',
    readPostgres: 'postgresql://h/y',
  })
  const args = ['--port', '0', '--rate=20', '--no-load', '--checkout', 'choreographed', '--redis', 'redis://h:1']
  expect(readOptions(args)).toMatchObject({ port: 0, ordersPerSecond: 20, load: false, redis: 'redis://h:1' })
  const wrong = (...list: string[]): string => {
    try {
      return JSON.stringify(readOptions(list))
    } catch (error) {
      if (error instanceof UsageError) return error.message
      throw error
    }
  }
  expect(wrong('--port', '70000')).toBe("--port: a whole number from 0 to 65535, not '70000'")
  expect(wrong('--port', '3e3')).toBe("--port: a whole number from 0 to 65535, not '3e3'")
  expect(wrong('--rate', '0')).toBe("--rate: a whole number from 1 to 200, not '0'")
  expect(wrong('--payment-timeout', '0')).toBe("--payment-timeout: a whole number from 1 to 60000, not '0'")
  expect(wrong('--checkout', 'chaotic')).toBe("--checkout: orchestrated or choreographed, not 'chaotic'")
  expect(wrong('--redis', 'localhost')).toBe(
    "--redis: an address that begins with redis:// or rediss://, not 'localhost'",
  )
  expect(wrong('--read-postgres', 'postgres://h/x')).toMatch(/^--read-postgres: only with --postgres/)
  expect(wrong('--postgres', 'postgres://h/x', '--read-postgres', 'mysql://h/y')).toMatch(
    /^--read-postgres: an address that begins with postgres:/,
  )
  expect(wrong('--rabbitmq', 'amqp://h')).toMatch(/^--rabbitmq: only with --postgres/)
  expect(wrong('--redis', '')).toBe("--redis: an address that begins with redis:// or rediss://, not ''")
  expect(wrong('--colour', 'red')).toMatch(/^Unknown option '--colour'/)
  expect(wrong('now')).toMatch(/^Unexpected argument 'now'/)
})
