const EVERY_MS = 250

/** Sends snapshots to every open page a few times a second, as server-sent events. Nobody looks: nothing is made. */
export class Live {
  readonly headers = { 'content-type': 'text/event-stream', 'cache-control': 'no-store' }
  readonly #pages = new Set<ReadableStreamDefaultController<Uint8Array>>()
  #timer: NodeJS.Timeout | undefined
  #making = false
  #closed = false

  /** @param snapshot what the page draws, made anew each time */
  constructor(private readonly snapshot: () => Promise<object>) {}

  /** The answer to a page that wants to watch. */
  open(): Response {
    let mine: ReadableStreamDefaultController<Uint8Array>
    const stream = new ReadableStream<Uint8Array>({
      start: (page) => {
        mine = page
        if (this.#closed) return page.close()
        this.#pages.add(page)
        this.#timer ??= setInterval(() => void this.#send(), EVERY_MS)
        void this.#send()
      },
      cancel: () => this.#leave(mine),
    })
    return new Response(stream, { headers: this.headers })
  }

  /** Ends every stream, so that the server can close. */
  close(): void {
    this.#closed = true
    for (const page of this.#pages) {
      this.#leave(page)
      page.close()
    }
  }

  #leave(page: ReadableStreamDefaultController<Uint8Array>): void {
    this.#pages.delete(page)
    if (this.#pages.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  async #send(): Promise<void> {
    if (this.#making) return // the last one is still being made: a slow shop sends fewer
    this.#making = true
    try {
      const event = new TextEncoder().encode(`data: ${JSON.stringify(await this.snapshot())}\n\n`)
      for (const page of this.#pages) {
        if ((page.desiredSize ?? 0) > 0) page.enqueue(event) // a page that does not read misses a few
      }
    } finally {
      this.#making = false
    }
  }
}
