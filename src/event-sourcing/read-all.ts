import { checkInteger } from '../kernel/check.js'
import { orAbort } from '../kernel/signal.js'
import type { Event, Recorded } from './event.js'
import type { Page, PageOptions, ReadAllOptions } from './store.js'

/** Events fetched at a time. */
const PAGE = 1_000

/** `readAll` of any store, in terms of its `readPage`. */
export async function* readAllPages<E extends Event>(
  readPage: (options: PageOptions) => Promise<Page<E>>,
  { after = 0, limit = Number.MAX_SAFE_INTEGER, query, signal }: ReadAllOptions,
): AsyncGenerator<Recorded<E>, void, undefined> {
  let left = checkInteger('limit', limit, 0)
  let position = after
  while (left > 0) {
    signal?.throwIfAborted()
    const wanted = Math.min(left, PAGE)
    // oxlint-disable-next-line no-await-in-loop -- each page starts where the last one ended
    const page = await orAbort(readPage({ after: position, limit: wanted, query }), signal)
    for (const event of page.events) {
      signal?.throwIfAborted()
      yield event
    }
    left -= page.events.length
    position = page.next
    if (page.events.length < wanted) return // a short page goes up to the head
  }
}
