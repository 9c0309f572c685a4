import type { Clock } from '../kernel/clock.js'

/** Numbers received out of order that are remembered before everything counts as missed. */
const MAX_EARLY = 1_000

/**
 * Whether the first level has seen every change of the second. It counts the changes it knows of; asked where the store stands,
 * it finds out what it missed. Time is this process's alone: current is what was confirmed by a question sent less than
 * `maxStalenessMs` ago.
 */
export class Coherence {
  /** Moves on whenever the count starts anew: a number learnt before means nothing any more. */
  generation = 0
  #epoch: string | undefined
  /** All changes up to here are known. */
  #seen = 0
  /** Known changes above a gap. */
  readonly #early = new Set<number>()
  #lost = false
  #asking: Promise<boolean> | undefined

  /**
   * @param ask where the store stands; `undefined` when it can't be asked
   * @param confirmed told until when the first level is current
   * @param missed told that it is not, before `confirmed`
   */
  constructor(
    private readonly clock: Clock,
    private readonly maxStalenessMs: number,
    private readonly ask: () => Promise<{ readonly epoch: string; readonly seq: number } | undefined>,
    private readonly confirmed: (until: number) => void,
    private readonly missed: (reason: 'start' | 'gap' | 'epoch') => void,
  ) {}

  /** Up to where the changes are known. */
  get basis(): { readonly epoch: string | undefined; readonly seq: number } {
    return { epoch: this.#epoch, seq: this.#seen }
  }

  /** Change number `seq` has been acted on here. @param generation as it was when the change was sent or the message read */
  observe(seq: number, generation: number): void {
    if (generation !== this.generation || seq <= this.#seen) return
    this.#early.add(seq)
    this.#advance()
    if (this.#early.size <= MAX_EARLY) return
    this.#early.clear()
    this.#lost = true
  }

  /** Asks once for all who call meanwhile. @returns whether the first level is current now */
  verify(): Promise<boolean> {
    return (this.#asking ??= this.#verify().finally(() => {
      this.#asking = undefined
    }))
  }

  async #verify(): Promise<boolean> {
    const sentAt = this.clock.now()
    const state = await this.ask()
    if (!state) return false
    const { epoch, seq } = state
    if (epoch !== this.#epoch || seq > this.#seen || this.#lost) {
      const reason = this.#epoch === undefined ? 'start' : epoch === this.#epoch ? 'gap' : 'epoch'
      if (epoch !== this.#epoch) this.#early.clear()
      this.#epoch = epoch
      this.#seen = seq
      this.#lost = false
      this.generation++
      for (const early of this.#early) if (early <= seq) this.#early.delete(early)
      this.#advance()
      this.missed(reason)
    }
    this.confirmed(sentAt + this.maxStalenessMs)
    return this.clock.now() < sentAt + this.maxStalenessMs
  }

  #advance(): void {
    while (this.#early.delete(this.#seen + 1)) this.#seen++
  }
}
