import type { Recorded } from 'holdfast/event-sourcing'
import type { OrderEvent } from './order.js'
import { orderIdOf } from './read-model.js'

const KEPT = 60
const EVERY_MS = 100
const DATA_CHARS = 160

/** An event of the log, as those who follow it are told. */
export interface FeedEvent {
  readonly position: number
  readonly orderId: string
  readonly stream: string
  readonly version: number
  readonly type: string
  /** Its data as JSON, cut when it is long. */
  readonly data: string
  readonly recordedAt: Date
}

interface Follower {
  readonly stream: ReadableStreamDefaultController<Uint8Array>
  /** What it was sent last. */
  sent: number
}

/**
 * The newest events of the log, told to every open page as they happen, as server-sent events. Memory is bounded: who
 * reads too slowly misses some, and sees by the positions that there were others.
 */
export class EventFeed {
  readonly headers = { 'content-type': 'text/event-stream', 'cache-control': 'no-store' }
  /** How many events it keeps for pages that come later. */
  readonly kept = KEPT
  readonly #events: FeedEvent[] = []
  readonly #followers = new Set<Follower>()
  #timer: NodeJS.Timeout | undefined
  #closed = false

  /** Takes in the next event; the same one again changes nothing. */
  add(event: Recorded<OrderEvent>): void {
    const { position, streamId: stream, version, type, recordedAt } = event
    if (position <= this.#last) return
    const data = JSON.stringify(event.data)
    const shown = data.length > DATA_CHARS ? `${data.slice(0, DATA_CHARS)}…` : data
    this.#events.push({ position, orderId: orderIdOf(event), stream, version, type, data: shown, recordedAt })
    if (this.#events.length > KEPT) this.#events.shift()
    if (this.#followers.size > 0) this.#timer ??= setTimeout(() => this.#tell(), EVERY_MS) // many at once are one message
  }

  /** The answer to who wants to follow. @param after the last position seen: what is kept of later ones comes at once */
  open(after = 0): Response {
    let mine: Follower
    const stream = new ReadableStream<Uint8Array>({
      start: (controller) => {
        if (this.#closed) return controller.close()
        mine = { stream: controller, sent: after > this.#last ? 0 : after } // later than the last: of another log
        this.#followers.add(mine)
        controller.enqueue(new TextEncoder().encode(': the log\n\n')) // so that it knows at once that it is heard
      },
      pull: () => this.#send(mine),
      cancel: () => void this.#followers.delete(mine),
    })
    return new Response(stream, { headers: this.headers })
  }

  /** Ends every stream, so that the server can close. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    for (const { stream } of this.#followers) stream.close()
    this.#followers.clear()
  }

  get #last(): number {
    return this.#events.at(-1)?.position ?? 0
  }

  #tell(): void {
    this.#timer = undefined
    for (const follower of this.#followers) this.#send(follower)
  }

  #send(follower: Follower): void {
    if ((follower.stream.desiredSize ?? 0) <= 0) return // it will ask
    const news = this.#events.filter(({ position }) => position > follower.sent)
    if (news.length === 0) return
    follower.sent = this.#last
    const text = `id: ${follower.sent}\ndata: ${JSON.stringify(news)}\n\n`
    follower.stream.enqueue(new TextEncoder().encode(text))
  }
}
