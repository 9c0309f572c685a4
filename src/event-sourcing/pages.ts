import type { Event, Recorded } from './event.js'
import type { EventStore, Page, Query } from './store.js'

/**
 * Reads the log page after page. While a full page is worked on, the next one is under way: at most one, and only if it
 * is asked for next it counts.
 */
export class Pages<E extends Event> {
  #ahead: { readonly after: number; readonly page: Promise<Page<E>> } | undefined

  constructor(
    private readonly store: EventStore<E>,
    private readonly limit: number,
    private readonly query: Query | undefined,
    /** Which of them count. @defaultValue all */
    private readonly picks?: (event: Recorded<E>) => boolean,
  ) {}

  async after(position: number): Promise<Page<E>> {
    const ahead = this.#ahead
    this.#ahead = undefined
    const page = await (ahead?.after === position ? ahead.page : this.#read(position))
    if (page.events.length >= this.limit) {
      const next = this.#read(page.next)
      next.catch(() => {}) // told to whoever asks for it
      this.#ahead = { after: page.next, page: next }
    }
    return this.picks ? { ...page, events: page.events.filter(this.picks) } : page
  }

  #read(after: number): Promise<Page<E>> {
    return this.store.readPage<E>({ after, limit: this.limit, query: this.query })
  }
}
