import { messageOf } from '../kernel/errors.js'
import type { Parked } from './checkpoints.js'
import { isRefusedAtItsEnd, type Course, type Step } from './course.js'
import type { Commits } from './delivery.js'
import type { Event, Recorded } from './event.js'
import type { Pages } from './pages.js'
import type { Page } from './store.js'

/** Takes a batch into the read model. */
export type Project<E extends Event, Tx> = (tx: Tx, events: readonly Recorded<E>[], attempt: number) => Promise<void>

/** What holds back a revision that is built beside the live one. */
export interface Bound {
  /** It may not go further: what comes after is the live one's, with its side effects. */
  readonly mark: number
  /** Takes the live one's place. @returns where; `undefined`: it is to be tried again */
  readonly takeOver: ((position: number) => Promise<number | undefined>) | undefined
}

/**
 * Takes pages to a projection, each in one transaction with the checkpoint. A batch that fails is cut in half, and again,
 * until the event that stands in the way is alone; what stands before it is committed by then.
 */
export class Batches<E extends Event, Tx> implements Course<E> {
  /** The last so many events of a batch that failed are left, `size` of them to be tried next. */
  #suspects: { readonly left: number; readonly size: number } | undefined
  #failing: { readonly position: number; readonly attempts: number } | undefined

  constructor(
    private readonly pages: Pages<E>,
    private readonly commits: Commits<Tx>,
    private readonly project: Project<E, Tx>,
    public position: number,
    /** `undefined` for the live revision. */
    private bound: (() => Promise<Bound>) | undefined,
  ) {}

  async step(): Promise<Step<E>> {
    const [page, bound] = await Promise.all([this.pages.after(this.position), this.bound?.()])
    const part = this.#part(bound ? upTo(page, bound.mark) : page)
    const { head } = page
    if (part.to > this.position) {
      const step = await this.#take(part, head)
      if (step.kind !== 'done') return step
    }
    if (bound?.takeOver && this.position >= bound.mark) return { kind: await this.#takeOver(bound.takeOver), head }
    return { kind: part.moved ? 'done' : 'idle', head }
  }

  async park({ position, streamId, version }: Recorded<E>, attempts: number, error: unknown): Promise<Parked> {
    const parked = { position, streamId, version, attempts, error: messageOf(error) }
    const { checkpoints, name, epoch } = this.commits
    await checkpoints.park(name, epoch, this.position, parked)
    this.#passed(1, position)
    return parked
  }

  async #take({ events, to }: Part<E>, head: number): Promise<Step<E>> {
    const { checkpoints, name, epoch, signal } = this.commits
    const [first] = events
    const attempt = first && this.#failing?.position === first.position ? this.#failing.attempts + 1 : 1
    let thrown: { readonly error: unknown } | undefined
    try {
      await checkpoints.commit(name, epoch, this.position, to, async (tx) => {
        if (!first) return
        try {
          signal.throwIfAborted()
          await this.project(tx, events, attempt)
        } catch (error) {
          thrown = { error }
          throw error
        }
      })
      this.#passed(events.length, to)
      return { kind: 'done', head }
    } catch (error) {
      if (!first || (thrown?.error !== error && !isRefusedAtItsEnd(error))) throw error
      if (signal.aborted) return { kind: 'interrupted', head }
      if (events.length > 1) {
        this.#suspects = { left: events.length, size: Math.ceil(events.length / 2) }
        return { kind: 'split', error, head }
      }
      this.#suspects = { left: this.#suspects?.left ?? 1, size: 1 }
      this.#failing = { position: first.position, attempts: attempt }
      return { kind: 'failed', event: first, error, attempt, head }
    }
  }

  async #takeOver(takeOver: (position: number) => Promise<number | undefined>): Promise<'done' | 'idle'> {
    const position = await takeOver(this.position)
    if (position === undefined) return 'idle'
    this.position = position
    this.bound = undefined
    return 'done'
  }

  #passed(count: number, to: number): void {
    this.position = to
    this.#failing = undefined
    const left = (this.#suspects?.left ?? 0) - count
    this.#suspects = left > 0 ? { left, size: Math.ceil(left / 2) } : undefined
  }

  #part({ events, next }: Page<E>): Part<E> {
    const size = this.#suspects?.size ?? Infinity
    const moved = next > this.position
    if (events.length <= size) return { events, to: next, moved }
    const part = events.slice(0, size)
    return { events: part, to: part.at(-1)?.position ?? next, moved }
  }
}

interface Part<E extends Event> {
  readonly events: readonly Recorded<E>[]
  readonly to: number
  readonly moved: boolean
}

/** What of a page stands at or before `mark`. */
function upTo<E extends Event>(page: Page<E>, mark: number): Page<E> {
  if (page.next <= mark) return page
  return { events: page.events.filter(({ position }) => position <= mark), next: mark, head: page.head }
}
