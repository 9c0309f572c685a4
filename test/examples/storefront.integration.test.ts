import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import { Pool } from 'pg'
import { chromium, type Browser, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest'
import { chromium as chromiumPath } from '../../scripts/programs.mjs'
import { until } from '../support/until.js'
import { openStorefront } from './storefront-client.js'
import { flip, source, start, startNode } from './storefront-process.js'

describe('the page, in a real browser', { timeout: 60_000 }, () => {
  let browser: Browser

  beforeAll(async () => {
    const quiet = ['background-networking', 'component-update', 'sync', 'gpu', 'quic'].map((it) => `--disable-${it}`)
    browser = await chromium.launch({
      executablePath: chromiumPath() ?? 'chromium',
      args: ['--headless', '--no-sandbox', '--no-first-run', ...quiet],
    })
  })
  afterAll(() => browser.close())

  async function openPage(
    url: string,
    options: Parameters<Browser['newPage']>[0] = {},
  ): Promise<{ page: Page; errors: string[] }> {
    const page = await browser.newPage(options)
    onTestFinished(() => page.close())
    const errors: string[] = []
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
    page.on('pageerror', (error) => errors.push(error.message))
    await page.goto(url)
    await page.getByText('live', { exact: true }).waitFor()
    return { page, errors }
  }

  test('shows orders flowing; the payment switch opens the breaker and cancels orders, and flipping it back heals', async () => {
    const { url } = await start('--port', '0', '--rate', '5')
    const { page, errors } = await openPage(url)
    const shipped = page.locator('#orders .pill[data-state="shipped"]')
    const breaker = page.locator('#breaker-state')
    await shipped.first().waitFor()
    expect(await breaker.textContent()).toBe('closed')
    await page.locator('#refused', { hasText: /[1-9]/ }).waitFor()
    await page.locator('#hit-ratio', { hasText: /\d.*%/ }).waitFor()

    await page.getByRole('radio', { name: 'fails' }).check()
    await page.locator('#breaker-state[data-state="open"]').waitFor()
    await page.getByText('cancelled: payment unavailable').first().waitFor()
    await page.locator('#checkouts .pill[data-state="compensated"]').first().waitFor()
    await page.locator('#breaker-timeline rect[data-state="open"]').first().waitFor({ state: 'attached' })
    expect(await page.locator('#announce').textContent()).toMatch(/The circuit breaker is (open|half-open)/)

    await page.getByRole('radio', { name: 'works' }).check()
    await page.locator('#breaker-state[data-state="closed"]').waitFor()
    await page.locator('#orders tr:first-child .pill[data-state="shipped"]').waitFor()

    await page.getByRole('radio', { name: 'choreographed' }).check()
    await page.locator('#checkouts li:first-child code[title="choreographed"]').waitFor()
    await page.getByRole('radio', { name: 'out of stock' }).check()
    await page.getByText('cancelled: out of stock').first().waitFor()
    expect(errors).toEqual([])
  })

  test('can be used by keyboard: switches have names, an order can be placed', async () => {
    const { url } = await start('--port', '0', '--no-load')
    const { page, errors } = await openPage(url)
    await page.getByRole('radio', { name: 'works' }).focus()
    await page.keyboard.press('ArrowRight')
    await until(async () => ((await (await fetch(`${url}/switches`)).json()) as { payment: string }).payment === 'slow')
    await page.getByRole('checkbox', { name: 'shopping' }).focus()
    await page.keyboard.press('Space')
    await until(async () => ((await (await fetch(`${url}/switches`)).json()) as { load: boolean }).load)
    await page.getByRole('button', { name: 'Place an order' }).press('Enter')
    await page.getByText(/^Placed: [0-9a-f]{8}\.$/).waitFor()
    await page.locator('#orders tr.mine').waitFor()
    expect(errors).toEqual([])
  })

  test('follows the log live; it can be paused, and holds still for who points at it', async () => {
    const { url } = await start('--port', '0', '--rate', '10')
    const { page, errors } = await openPage(url)
    const rows = page.locator('#events tr')
    await rows.nth(23).waitFor()
    await page.locator('#orders tr').nth(11).waitFor() // what grows above it would take it away from under the pointer
    await page.locator('#checkouts li').nth(10).waitFor()
    expect(await rows.count()).toBe(24)
    const text = (): Promise<string | null> => page.locator('#events').textContent()
    const moves = async (): Promise<void> => {
      const before = await text()
      await until(async () => (await text()) !== before)
    }
    const standsStill = async (): Promise<void> => {
      const before = await text()
      await new Promise((resolve) => setTimeout(resolve, 700))
      expect(await text()).toBe(before)
    }
    await moves()
    await page.getByRole('button', { name: 'Pause' }).press('Enter')
    await standsStill()
    await page.getByRole('button', { name: /^Go on \(\d+ new\)$/ }).click()
    await moves()
    await rows.nth(5).hover()
    await standsStill()
    await page.mouse.move(0, 0)
    await moves()
    expect(errors).toEqual([])
  })

  test('travels through the versions of an order by keyboard, and marks what changed', async () => {
    const { url } = await start('--port', '0', '--no-load')
    const { page, errors } = await openPage(url)
    await page.getByRole('button', { name: 'Place an order' }).press('Enter')
    await page.locator('#orders .pill[data-state="shipped"]').waitFor()
    await page.locator('#orders a').focus()
    await page.keyboard.press('Enter')
    const slider = page.getByRole('slider', { name: 'Version', exact: true })
    await slider.waitFor()
    const row = (name: string) => page.locator('#state div').filter({ has: page.getByText(name, { exact: true }) })
    const says = (value: string) => until(async () => (await slider.getAttribute('aria-valuetext')) === value)
    await says('version 5 of 5: OrderShipped')
    expect(await page.evaluate('document.activeElement.id')).toBe('version')
    expect(await row('status').locator('del').textContent()).toBe('placed')
    expect(await row('status').locator('ins').textContent()).toBe('shipped')

    await page.keyboard.press('ArrowLeft')
    await says('version 4 of 5: PaymentReceived')
    expect(await row('status').locator('dd').textContent()).toBe('placed')
    expect(await page.locator('#state [data-changed] dt').allTextContents()).toEqual(['payment'])
    await page.keyboard.press('Home')
    await says('version 1 of 5: OrderPlaced')
    expect(await row('total').locator('ins').textContent()).toBe('€189.00')
    expect(await row('stock').locator('dd').textContent()).toBe('none')
    await page.getByRole('checkbox', { name: 'compare with the version before' }).press('Space')
    expect(await page.locator('#state [data-changed]').count()).toBe(0)
    expect(page.url()).toMatch(/#order=[0-9a-f]{32}&version=1$/)

    await page.reload()
    await says('version 1 of 5: OrderPlaced')
    await page.locator('#versions').getByRole('button', { name: 'StockReserved' }).press('Enter')
    await says('version 3 of 5: StockReserved')
    expect(await page.locator('#versions [aria-current="step"]').textContent()).toBe('3StockReserved')
    expect(errors).toEqual([])
  })

  test('opens the order of an event at its version, and shows its next events as they happen, as text', async () => {
    const { url } = await start('--port', '0', '--no-load', '--payment-timeout', '800')
    const { page, errors } = await openPage(url)
    await flip(url, { payment: 'hang' })
    const nasty = '<img src=x onerror=document.title="broken">'
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify({ items: [{ sku: 'rope', quantity: 1 }], shipTo: nasty })
    await fetch(`${url}/orders`, { method: 'POST', headers, body })
    const slider = page.getByRole('slider', { name: 'Version', exact: true })
    await page.locator('#events tr', { hasText: 'StockReserved' }).getByRole('link').click()
    await page.locator('#version[aria-valuetext="version 3 of 3: StockReserved"]').waitFor()
    await page.mouse.move(0, 0)
    await flip(url, { payment: 'ok' })
    await page.locator('#version[aria-valuetext^="version 5 of 5"]').waitFor() // it was at the last one, so it stays there
    await slider.press('Home')
    await page.getByText(nasty, { exact: true }).waitFor()
    expect(await page.locator('img').count()).toBe(0)
    await page.evaluate(`location.hash = 'order=none'`)
    await page.getByRole('alert').filter({ hasText: 'there is no order none' }).waitFor()
    expect(await page.locator('#travel').isVisible()).toBe(false)
    expect(errors.filter((error) => !error.includes('404'))).toEqual([])
  })

  test('draws a saga as it stands; a parked one can be retried, and its history says who and why', async () => {
    const { url } = await start('--port', '0', '--no-load')
    const { page, errors } = await openPage(url)
    await page.getByRole('radio', { name: 'van broken' }).check()
    await page.getByRole('button', { name: 'Place an order' }).press('Enter')
    await page.locator('#parked a').click()
    await page.locator('#saga-status[data-state="parked"]').waitFor()
    const graph = page.locator('#saga-graph')
    expect(await graph.getAttribute('aria-label')).toBe(
      'order done, stock done, payment done, parcel done, shipping done, pickup failed',
    )
    expect(await graph.locator('rect').count()).toBe(6)
    expect(await page.locator('#saga-blocked').textContent()).toContain('pickup: VanBroken: the van has broken down')

    await page.getByRole('radio', { name: 'no', exact: true }).check()
    expect(await page.getByLabel('Redrive from').locator('option').allTextContents()).toEqual(['pickup']) // the rest is for good
    await page.getByLabel('why').fill('the van is mended')
    await page.getByRole('button', { name: 'Retry' }).press('Enter')
    await page.locator('#saga-status[data-state="completed"]').waitFor()
    await page.getByText(/retry by you: the van is mended$/).waitFor()
    await page.locator('#parked-none').waitFor()
    expect(await page.getByRole('button', { name: 'Retry' }).isVisible()).toBe(false)

    await page.getByRole('radio', { name: 'stock room locked' }).check()
    const body = JSON.stringify({ items: [{ sku: 'rope', quantity: 1 }], shipTo: 'Atlantis' })
    await fetch(`${url}/orders`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
    await page.locator('#parked a').click()
    await page.getByRole('button', { name: 'Skip stock' }).waitFor()
    expect(await page.getByLabel('why').inputValue()).toBe('') // that was about the other one
    const from = page.getByLabel('Redrive from')
    expect(await from.locator('option').allTextContents()).toEqual(['order', 'stock'])
    await page.getByRole('button', { name: 'Resolve stock' }).press('Enter')
    await page.locator('#saga-status[data-state="compensated"]').waitFor()
    await page.getByText(/resolve stock by you$/).waitFor()
    expect(await from.locator('option').allTextContents()).toEqual(['order'])
    await page.getByRole('button', { name: 'Redrive' }).press('Enter')
    await page.getByText(/redrive order by you$/).waitFor()
    await page.locator('#saga-status[data-state="compensated"]').waitFor()
    expect(errors).toEqual([])
  })

  test.each([
    ['wide', { viewport: { width: 1400, height: 900 } }],
    ['narrow', { viewport: { width: 360, height: 740 }, colorScheme: 'dark' }],
  ] as const)('fits a %s window without scrolling sideways', async (_name, options) => {
    const { url } = await start('--port', '0', '--rate', '10')
    const { page } = await openPage(url, options)
    await page.locator('#orders tr').nth(8).waitFor()
    await page.locator('#orders a').first().click()
    await page.locator('#state').waitFor()
    await page.locator('#checkouts a').first().click()
    await page.locator('#saga-graph rect').first().waitFor()
    const [box, frame] = ['[data-current]', '[aria-label="Graph"]'].map((it) => page.locator(`section.saga ${it}`))
    const right = async (it: typeof box): Promise<number> => it?.boundingBox().then((b) => b!.x + b!.width) ?? NaN
    await until(async () => (await right(box)) <= (await right(frame)) + 1) // where the saga is is in sight
    expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0)
  })
})

describe('the process', { timeout: 60_000 }, () => {
  test('says something at once, serves soon, and stops cleanly on Ctrl-C with pages watching and payments hanging', async () => {
    const { child, url, output, ended } = await startNode(...source, '--port', '0', '--rate', '10')
    expect(output()).toMatch(/^storefront: starting …/)
    expect(output().trimEnd().split('\n').at(-1)).toBe(`storefront: open ${url}`)
    const watching = await fetch(`${url}/live`)
    await flip(url, { payment: 'hang' })
    await until(
      async () =>
        ((await (await fetch(`${url}/health`)).json()) as { orders: { placed: number } }).orders.placed > 0 ||
        undefined,
    )
    const began = Date.now()
    child.kill('SIGINT')
    expect(await ended).toBe(0)
    expect(Date.now() - began).toBeLessThan(5_000)
    expect(output()).toMatch(/closing …[\s\S]*closed\n$/)
    await watching.body?.cancel().catch(() => {})
  })

  test('a second Ctrl-C ends it at once', async () => {
    const { child, url, ended } = await start('--port', '0', '--rate', '10')
    await flip(url, { payment: 'hang' })
    await until(
      async () =>
        ((await (await fetch(`${url}/health`)).json()) as { orders: { placed: number } }).orders.placed > 0 ||
        undefined,
    )
    child.kill('SIGINT')
    await new Promise((resolve) => setTimeout(resolve, 500)) // one that comes sooner is taken for an echo of the first
    child.kill('SIGINT')
    expect([0, 1]).toContain(await ended) // 0: it was quicker than we
  })

  test('SIGTERM stops it as well', async () => {
    const { child, ended } = await start('--port', '0', '--no-load')
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
  })

  test('takes the next port when one is taken, and says so', async () => {
    const first = await start('--port', '0', '--no-load')
    const { port } = new URL(first.url)
    const second = await start('--port', port, '--no-load')
    expect(second.url).not.toBe(first.url)
    expect(second.output()).toContain(`storefront: port ${port} is taken, so it is ${new URL(second.url).port}`)
  })

  test('says what is wrong with its options, and ends', async () => {
    const { url: output, ended } = await start('--port', 'x')
    expect(output).toContain("storefront: --port: a whole number from 0 to 65535, not 'x'")
    expect(output).not.toMatch(/^ +at /m)
    expect(await ended).toBe(1)
    const help = await start('--help')
    expect(help.url).toContain('--checkout KIND')
    expect(await help.ended).toBe(0)
  })
})

describe('on real servers', { timeout: 240_000 }, () => {
  test('keeps its events in PostgreSQL and its buckets in Redis, and goes on where it stopped', async () => {
    const pool = new Pool({ connectionString: inject('postgresUrl') })
    onTestFinished(async () => {
      await pool.query('drop schema if exists storefront, storefront_read, storefront_payment cascade')
      await pool.end()
    })
    await pool.query('drop schema if exists storefront, storefront_read, storefront_payment cascade')
    const servers = ['--redis', inject('redisUrl'), '--postgres', inject('postgresUrl')]
    const first = await start('--port', '0', '--rate', '4', ...servers)
    expect(first.output()).toContain('events in PostgreSQL, rate limit buckets in Redis, cache in Redis')
    expect(first.output()).toContain('sagas in PostgreSQL, read model in PostgreSQL')
    const ask = async (url: string, path: string): Promise<any> => (await fetch(url + path)).json()
    const health = async (url: string): Promise<{ placed: number; shipped: number; cancelled: number }> =>
      (await ask(url, '/health')).orders
    await until(async () => (await health(first.url)).shipped >= 10, 60_000)
    const [paid] = (await ask(first.url, '/orders?status=shipped&limit=1')).orders
    const redis = new Redis(inject('redisUrl'))
    const monitor = await redis.monitor()
    onTestFinished(() => [redis, monitor].forEach((client) => client.disconnect()))
    const userId = crypto.randomUUID()
    let buckets = 0
    monitor.on('monitor', (_at: string, args: string[]) => (buckets += Number(args.join().includes(userId))))
    await fetch(`${first.url}/orders`, { headers: { 'x-user-id': userId } })
    await until(() => buckets > 0)

    await flip(first.url, { payment: 'hang' })
    await until(async () => (await health(first.url)).placed > 0)
    first.child.kill('SIGINT')
    expect(await first.ended).toBe(0)

    const second = await start('--port', '0', '--no-load', ...servers)
    const before = await health(second.url)
    expect(before.shipped).toBeGreaterThanOrEqual(10)
    await until(async () => (await ask(second.url, `/orders/${paid.id}/receipt`)).state === 'charged') // in books that outlive a provider
    await until(async () => (await health(second.url)).placed === 0, 60_000)
  })
})

/** What each block of a page says its commands answer, and what they answered, as statuses. */
async function answersOf(page: string): Promise<{ said: (string | undefined)[]; came: string[] }> {
  const { storefront } = await openStorefront({ load: true, ordersPerSecond: 1, payment: { timeoutMs: 20_000 } })
  onTestFinished(() => storefront.close())
  const blocks = [...readFileSync(page, 'utf8').matchAll(/<!-- answers: ([\d ]+|429s) -->\n```bash\n([\s\S]*?)```/g)]
  // One shell for all of them, as a reader has it; marks tell the blocks apart.
  const script = blocks.map(([, , code]) => code).join('\necho; echo ---block---\n')
  const commands = `{ ${script}\n} 2>&1`.replaceAll('localhost:3000', new URL(storefront.url).host)
  const { stdout } = await promisify(execFile)('bash', ['-c', commands])
  const output = stdout.split('---block---')
  const said = blocks.map(([, answers]) => answers)
  const came = output.map((part, i) => {
    if (said[i] === '429s') return part.split(' ').some((s) => s.trim() === '429') ? '429s' : part
    return [...part.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => status).join(' ')
  })
  return { said, came }
}

test.each([
  ['README.md', 1],
  ['docs/storefront.md', 8],
])('the commands of %s do what the page says', { timeout: 120_000 }, async (page, least) => {
  const { said, came } = await answersOf(page)
  expect(said.length).toBeGreaterThanOrEqual(least)
  expect(came).toEqual(said)
})
