import type { Fenced, SagaStore, Transition } from './store.js'

const LARGEST_BATCH = 500
const MOST_IN_FLIGHT = 2

interface Waiting {
  readonly transition: Transition
  readonly resolve: (answer: Fenced) => void
  readonly reject: (error: unknown) => void
}

/**
 * Writes the transitions of all sagas of a process: those that come while two writes are under way go out together in the
 * next one.
 */
export class Committer {
  #waiting: Waiting[] = []
  #inFlight = 0
  #scheduled = false

  constructor(private readonly store: Pick<SagaStore, 'commit'>) {}

  /** Rejects with what the store threw: it may or may not have been written. */
  commit(transition: Transition): Promise<Fenced> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ transition, resolve, reject })
      this.#schedule()
    })
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight === MOST_IN_FLIGHT) return
    this.#scheduled = true
    void Promise.resolve().then(() => {
      this.#scheduled = false
      void this.#flush()
    })
  }

  async #flush(): Promise<void> {
    const batch = this.#waiting.splice(0, LARGEST_BATCH)
    if (batch.length === 0) return
    this.#inFlight++
    if (this.#waiting.length > 0) this.#schedule()
    try {
      const answers = await this.store.commit(batch.map((w) => w.transition))
      for (const [i, { resolve }] of batch.entries()) resolve(answers[i] ?? 'fenced')
    } catch (error) {
      for (const { reject } of batch) reject(error)
    } finally {
      this.#inFlight--
      if (this.#waiting.length > 0) this.#schedule()
    }
  }
}
