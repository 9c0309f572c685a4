import { setTimeout as sleep } from 'node:timers/promises'
import { skus, type Item } from './catalogue.js'

const TICK_MS = 50
const GREEDY_PER_SECOND = 30
/** Requests under way at once: a shop that hangs is not buried. */
const MAX_UNDER_WAY = 200
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

const any = <T>(all: readonly T[]): T => all[Math.floor(Math.random() * all.length)] as T
const chance = (ratio: number): boolean => Math.random() < ratio

/** The built-in crowd: real HTTP requests from many users, one of whom never has enough. */
export class Load {
  ordersPerSecond: number
  on: boolean
  #url = ''
  #placed = 0
  #underWay = 0
  readonly #recent: string[] = []
  readonly #closing = new AbortController()
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
    this.#closing.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    let shoppers = 0
    let greedy = 0
    for (let last = Date.now(); !this.#closing.signal.aborted;) {
      await sleep(TICK_MS, undefined, { signal: this.#closing.signal }).catch(() => {})
      const seconds = Math.min(1, (Date.now() - last) / 1_000)
      last = Date.now()
      if (!this.on) continue
      if (this.#placed >= MAX_ORDERS) this.on = false
      for (shoppers += seconds * this.ordersPerSecond; shoppers >= 1; shoppers--) this.#go(() => this.#shop())
      for (greedy += seconds * GREEDY_PER_SECOND; greedy >= 1; greedy--) this.#go(() => this.#read('greedy'))
    }
  }

  #go(visit: () => Promise<unknown>): void {
    if (this.#underWay >= MAX_UNDER_WAY || this.#closing.signal.aborted) return
    this.#underWay++
    visit()
      .catch(() => {}) // the page shows how the shop fares; the crowd does not complain
      .finally(() => this.#underWay--)
  }

  /** Orders, looks at the order, looks at others, comes back for it a little later, and now and then thinks better of it. */
  async #shop(): Promise<void> {
    const userId = `${any(names)}-${1 + Math.floor(Math.random() * 9)}`
    const items: Item[] = [
      { sku: any(skus.filter((sku) => sku !== 'portaledge')), quantity: 1 + Math.floor(Math.random() * 3) },
    ]
    const shipTo = chance(0.03) ? 'Atlantis' : any(places)
    this.#placed++
    const placed = await this.#send(userId, '/orders', { items, shipTo }, { 'idempotency-key': crypto.randomUUID() })
    const location = placed.headers.get('location')
    if (!placed.ok || !location) return
    await this.#send(userId, location)
    const { pathname } = new URL(location, this.#url)
    if (chance(0.03)) await this.#send(userId, `${pathname}/cancel`, {})
    this.#recent.push(pathname)
    if (this.#recent.length > 40) this.#recent.shift()
    for (let i = 0; i < 3; i++) {
      await sleep(150, undefined, { signal: this.#closing.signal })
      await this.#read(userId)
    }
    await this.#send(userId, pathname)
  }

  /** Looks at an order that is talked about. */
  #read(userId: string): Promise<Response> {
    return this.#send(userId, this.#recent.length > 0 ? any(this.#recent) : '/orders?limit=5')
  }

  async #send(userId: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<Response> {
    const response = await fetch(new URL(path, this.#url), {
      method: body ? 'POST' : 'GET',
      headers: { 'x-user-id': userId, ...headers, ...(body && { 'content-type': 'application/json' }) },
      signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(5_000)]),
      ...(body && { body: JSON.stringify(body) }),
    })
    await response.arrayBuffer() // read to the end, so that the connection is free again
    return response
  }
}
