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

/** One batch carries at most so many appends, events, tags and characters of data: it is a transaction, and others wait for its locks. */
const MOST_APPENDS = 256
const MOST_EVENTS = 2_000
const MOST_TAGS = 60
const MOST_DATA = 8_000_000

/**
 * Group commit: what is asked for while others are on their way travels together, so that one commit serves many. What is asked
 * for when nothing is under way goes at once. Appends to one stream are made in the order in which they were asked for.
 */
export class AppendQueue {
  #waiting: WaitingAppend[] = []
  #running = 0
  #scheduled = false
  /** Streams of the batches that are under way. */
  readonly #underWay = new Set<string>()

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
      for (const { request } of batch) this.#underWay.add(request.stream)
      void this.run(batch).then(() => {
        this.#running--
        for (const { request } of batch) this.#underWay.delete(request.stream)
        this.#send()
      })
    }
  }

  #take(): readonly WaitingAppend[] {
    const batch: WaitingAppend[] = []
    const later: WaitingAppend[] = []
    const keys = new Set<string>()
    // Nothing overtakes on its stream: who follows one that has to wait, or that is on its way in another batch, waits too.
    const behind = new Set(this.#underWay)
    let full = false
    let events = 0
    let tags = 0
    let data = 0
    for (const each of this.#waiting) {
      if (each.signal?.aborted) continue // its caller has gone
      const { key, request, texts } = each
      const { stream } = request
      const itsData = texts.reduce((sum, text) => sum + text.data.length, 0)
      const itsTags = request.events.reduce((sum, event) => sum + event.tags.length, 0)
      full ||=
        batch.length > 0 &&
        (batch.length === MOST_APPENDS ||
          events + request.events.length > MOST_EVENTS ||
          tags + itsTags > MOST_TAGS ||
          data + itsData > MOST_DATA)
      if (full || behind.has(stream) || (key !== undefined && keys.has(key))) {
        later.push(each)
        behind.add(stream)
      } else {
        batch.push(each)
        events += request.events.length
        tags += itsTags
        data += itsData
      }
      if (key !== undefined) keys.add(key)
    }
    this.#waiting = later
    return batch
  }
}
