import { setTimeout as sleep } from 'node:timers/promises'
import { skus, type Item } from './catalogue.js'

const TICK_MS = 50
const GREEDY_PER_SECOND = 16
/** How many are in the shop at once: one that hangs is not buried. */
const MAX_VISITS = 64
const LONGEST_VISIT_MS = 10_000
/** The shop's memory is finite: after so many orders the crowd goes home. */
const MAX_ORDERS = 50_000

const names = [
  'ada',
  'alex',
  'beth',
  'catherine',
  'chris',
  'edmund',
  'heinrich',
  'junko',
  'lynn',
  'margo',
  'tenzing',
  'wanda',
]
const places = ['Chamonix', 'Innsbruck', 'Yosemite', 'Sheffield', 'Lleida', 'Kalymnos', 'Zermatt', 'Arco']

/** Portaledges are over the limit of most cards. */
const wares = skus.filter((sku) => sku !== 'portaledge')

const any = <T>(all: readonly T[]): T => all[Math.floor(Math.random() * all.length)] as T
const chance = (ratio: number): boolean => Math.random() < ratio

/** The built-in crowd: real HTTP requests from many users, one of whom never has enough. */
export class Load {
  ordersPerSecond: number
  on: boolean
  #url = ''
  #placed = 0
  readonly #recent: string[] = []
  readonly #visits = new Set<AbortController>()
  #closed = false
  #running: Promise<void> | undefined

  constructor({ on, ordersPerSecond }: { readonly on: boolean; readonly ordersPerSecond: number }) {
    this.on = on
    this.ordersPerSecond = ordersPerSecond
  }

  /** @param url where the shop is */
  start(url: string): void {
    this.#url = url
    this.#running ??= this.#run()
  }

  /** Ends the shopping at once, requests under way included. */
  async close(): Promise<void> {
    this.#closed = true
    for (const visit of this.#visits) visit.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    let shoppers = 0
    let greedy = 0
    for (let last = Date.now(); !this.#closed;) {
      // oxlint-disable-next-line no-await-in-loop -- tick by tick
      await sleep(TICK_MS)
      const seconds = Math.min(1, (Date.now() - last) / 1_000)
      last = Date.now()
      if (!this.on) continue
      if (this.#placed >= MAX_ORDERS) this.on = false
      for (shoppers += seconds * this.ordersPerSecond; shoppers >= 1; shoppers--)
        this.#go((signal) => this.#shop(signal))
      for (greedy += seconds * GREEDY_PER_SECOND; greedy >= 1; greedy--)
        this.#go((signal) => customer(this.#url, 'greedy', signal)(this.#talkOfTheTown()))
    }
  }

  #go(visit: (signal: AbortSignal) => Promise<unknown>): void {
    if (this.#closed || this.#visits.size >= MAX_VISITS) return
    const mine = new AbortController()
    this.#visits.add(mine)
    const tired = setTimeout(() => mine.abort(), LONGEST_VISIT_MS)
    visit(mine.signal)
      .catch(() => {}) // the page shows how the shop fares; the crowd does not complain
      .finally(() => {
        clearTimeout(tired)
        this.#visits.delete(mine)
      })
  }

  /** Orders, looks at the order, looks at others, comes back for it a little later, and now and then thinks better of it. */
  async #shop(signal: AbortSignal): Promise<void> {
    const send = customer(this.#url, `${any(names)}-${1 + Math.floor(Math.random() * 9)}`, signal)
    const items: Item[] = [{ sku: any(wares), quantity: 1 + Math.floor(Math.random() * 3) }]
    this.#placed++
    const placed = await send('/orders', { items, shipTo: chance(0.03) ? 'Atlantis' : any(places) })
    const location = placed.headers.get('location')
    if (!placed.ok || !location) return
    await send(location)
    const { pathname } = new URL(location, this.#url)
    if (chance(0.03)) await send(`${pathname}/cancel`, {})
    this.#recent.push(pathname)
    if (this.#recent.length > 40) this.#recent.shift()
    for (let i = 0; i < 3; i++) {
      // oxlint-disable-next-line no-await-in-loop -- people look at one thing at a time
      await sleep(150, undefined, { signal })
      // oxlint-disable-next-line no-await-in-loop
      await send(this.#talkOfTheTown())
    }
    await send(pathname)
  }

  /** An order that many look at: what a cache is for. */
  #talkOfTheTown(): string {
    return this.#recent.length > 0 ? any(this.#recent) : '/orders?limit=5'
  }
}

/** How one customer speaks to the shop: POST with a body, GET without. */
const customer =
  (url: string, userId: string, signal: AbortSignal) =>
  async (path: string, body?: object): Promise<Response> => {
    const posting = { 'content-type': 'application/json', 'idempotency-key': crypto.randomUUID() }
    const response = await fetch(new URL(path, url), {
      signal,
      method: body ? 'POST' : 'GET',
      headers: { 'x-user-id': userId, ...(body && posting) },
      ...(body && { body: JSON.stringify(body) }),
    })
    await response.arrayBuffer() // read to the end, so that the connection is free again
    return response
  }
