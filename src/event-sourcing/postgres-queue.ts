import type { SqlRow } from '../kernel/postgres.js'
import type { EventTexts } from './postgres-rows.js'
import type { AppendRequest } from './request.js'

/** An append to one stream that is to travel with others. */
export interface QueuedAppend {
  readonly request: AppendRequest
  readonly texts: readonly EventTexts[]
  readonly key: string | undefined
  readonly signal: AbortSignal | undefined
}

/** One that waits for its answer: rows as `es_append` gives them. */
export interface WaitingAppend extends QueuedAppend {
  readonly resolve: (rows: readonly SqlRow[]) => void
  readonly reject: (error: unknown) => void
}

/** One batch carries at most so many appends, events and tags: it is a transaction, and others wait for its locks. */
const MOST_APPENDS = 256
const MOST_EVENTS = 2_000
const MOST_TAGS = 60

/**
 * Group commit: what is asked for while others are on their way travels together, so that one commit serves many. What is asked
 * for when nothing is under way goes at once.
 */
export class AppendQueue {
  #waiting: WaitingAppend[] = []
  #running = 0
  #scheduled = false

  /**
   * @param width batches at the same time
   * @param run settles everything in a batch; never rejects
   */
  constructor(
    private readonly width: number,
    private readonly run: (batch: readonly WaitingAppend[]) => Promise<void>,
  ) {}

  add(append: QueuedAppend): Promise<readonly SqlRow[]> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...append, resolve, reject })
      if (this.#scheduled || this.#running >= this.width) return
      this.#scheduled = true
      queueMicrotask(() => {
        this.#scheduled = false
        this.#send()
      })
    })
  }

  #send(): void {
    while (this.#running < this.width) {
      const batch = this.#take()
      if (batch.length === 0) return
      this.#running++
      void this.run(batch).then(() => {
        this.#running--
        this.#send()
      })
    }
  }

  #take(): readonly WaitingAppend[] {
    const batch: WaitingAppend[] = []
    const later: WaitingAppend[] = []
    const keys = new Set<string>()
    let events = 0
    let tags = 0
    for (const each of this.#waiting) {
      if (each.signal?.aborted) continue // its caller has gone
      const { key, request } = each
      const itsTags = request.events.reduce((sum, event) => sum + event.tags.length, 0)
      const full =
        batch.length === MOST_APPENDS || events + request.events.length > MOST_EVENTS || tags + itsTags > MOST_TAGS
      // Nothing overtakes: who follows one that has to wait waits too.
      if (later.length > 0 || (full && batch.length > 0) || (key !== undefined && keys.has(key))) {
        later.push(each)
        continue
      }
      batch.push(each)
      if (key !== undefined) keys.add(key)
      events += request.events.length
      tags += itsTags
    }
    this.#waiting = later
    return batch
  }
}
