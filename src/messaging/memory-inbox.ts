import { checkFunction, checkNumber, checkString } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import type { Inbox } from './inbox.js'

/** How long a {@link MemoryInbox} remembers. */
export interface MemoryInboxOptions {
  /** How long a message is remembered after it was handled, in milliseconds, ≥ 0. @defaultValue 604_800_000, a week */
  readonly retainMs?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/**
 * What groups have handled, in this process's memory: for tests, and for effects that end with the process too. There is no transaction:
 * what `work` did before it threw is not undone, but the message is not remembered.
 */
export class MemoryInbox implements Inbox<undefined> {
  /** When each was handled, in that order. */
  readonly #handled = new Map<string, number>()
  readonly #underWay = new Map<string, Promise<unknown>>()
  readonly #retainMs: number
  readonly #clock: Clock

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor({ retainMs = 604_800_000, clock = systemClock }: MemoryInboxOptions = {}) {
    this.#retainMs = checkNumber('retainMs', retainMs, 0)
    this.#clock = clock
  }

  async once(group: string, id: string, work: (tx: undefined) => Promise<void>): Promise<boolean> {
    checkFunction('work', work)
    const key = JSON.stringify([checkString('group', group), checkString('id', id)])
    // oxlint-disable-next-line no-await-in-loop -- the next that waited begins when the one before has failed
    while (this.#underWay.has(key)) await this.#underWay.get(key)
    this.#forget()
    if (this.#handled.has(key)) return false
    const running = (async () => work(undefined))()
    this.#underWay.set(
      key,
      running.catch(() => {}),
    )
    try {
      await running
      this.#handled.set(key, this.#clock.now())
    } finally {
      this.#underWay.delete(key)
    }
    return true
  }

  #forget(): void {
    const before = this.#clock.now() - this.#retainMs
    for (const [key, at] of this.#handled) {
      if (at > before) break
      this.#handled.delete(key)
    }
  }
}
