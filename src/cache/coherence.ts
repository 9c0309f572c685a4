import type { Clock } from '../kernel/clock.js'

/** Numbers received out of order that are remembered before everything counts as missed. */
const MAX_EARLY = 1_000

/**
 * Whether the first level has seen every change of the second. It counts the changes it knows of, its own and those that others'
 * messages tell; asked where the store stands, it finds out what it missed. Time is this process's alone: current is what was confirmed by a question sent less than
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
  /** What to do when all changes up to `seq` are known. */
  #awaited: { readonly seq: number; readonly known: () => void } | undefined

  /**
   * @param ask where the store stands; `undefined` when it can't be asked
   * @param confirmed told until when the first level is current
   * @param missed told that it is not, before `confirmed`
   * @param patienceMs how long messages may still be on their way when the store has told of their changes already
   */
  constructor(
    private readonly clock: Clock,
    private readonly maxStalenessMs: number,
    private readonly ask: () => Promise<{ readonly epoch: string; readonly seq: number } | undefined>,
    private readonly confirmed: (until: number) => void,
    private readonly missed: (reason: 'start' | 'gap' | 'epoch') => void,
    private readonly patienceMs: number,
  ) {}

  /** Up to where the changes are known. */
  get basis(): { readonly epoch: string | undefined; readonly seq: number } {
    return { epoch: this.#epoch, seq: this.#seen }
  }

  /** A message told of change number `seq`, and it has been acted on. @param epoch of that number, if the message tells */
  heard(seq: number, epoch: string | undefined): void {
    if (epoch === undefined || epoch === this.#epoch) this.observe(seq, this.generation)
  }

  /** Change number `seq` has been acted on here. @param generation as it was when the change was sent */
  observe(seq: number, generation: number): void {
    if (generation !== this.generation || seq <= this.#seen) return
    this.#early.add(seq)
    this.#advance()
    if (this.#early.size <= MAX_EARLY) return
    this.#early.clear()
    this.#lost = true
  }

  /** Asks once for all who call meanwhile. @returns whether the store answered */
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
    if (epoch === this.#epoch && seq > this.#seen && this.patienceMs > 0) await this.#caughtUp(seq)
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
    return true
  }

  /** Waits until all changes up to `seq` are known, or long enough. */
  #caughtUp(seq: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        cancel()
        this.#awaited = undefined
        resolve()
      }
      const cancel = this.clock.setTimer(end, this.patienceMs, { keepAlive: true })
      this.#awaited = { seq, known: end }
    })
  }

  #advance(): void {
    while (this.#early.delete(this.#seen + 1)) this.#seen++
    if (this.#awaited && this.#seen >= this.#awaited.seq) this.#awaited.known()
  }
}
