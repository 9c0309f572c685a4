import { Grouped } from './grouped.js'
import type { Fenced, SagaStore, Transition } from './store.js'

/** Writes the transitions of all sagas of a process, those that come together in one call. */
export class Committer {
  readonly #writes: Grouped<Transition, Fenced>

  constructor(store: Pick<SagaStore, 'commit'>) {
    this.#writes = new Grouped(async (transitions) => {
      const answers = await store.commit(transitions)
      return transitions.map((_, i) => answers[i] ?? 'fenced') // what a store says nothing of must not count
    })
  }

  /** Rejects with what the store threw: it may or may not have been written. */
  commit(transition: Transition): Promise<Fenced> {
    return this.#writes.add(transition)
  }
}
