import type { SqlRow } from '../kernel/postgres.js'
import { storedOf } from './postgres-outbox-rows.js'
import type { StoredMessage } from './stored-message.js'

/** A partition under one lease; another lease of the same one is another object. */
export interface Owned {
  readonly partition: number
  /** One higher with each owner. */
  readonly epoch: number
  /** When the lease ends, by this process's clock: from before it was asked for. */
  until: number
  /** To be given to a relay that has too few: not read any more. */
  giving: boolean
  /** What has been read and not yet deleted, by position. */
  readonly commits: Map<number, Commit>
}

/** What one transaction has put in one partition under one position. */
export interface Commit {
  readonly owned: Owned
  readonly pos: number
  readonly batch: number
  /** The messages that have been read. */
  readonly taken: Set<number>
  /** How many of them are neither published nor parked. */
  left: number
  /** How many of them are not yet deleted. */
  kept: number
  /** Whether no others are behind them. */
  complete: boolean
}

/** A message that has been read. */
export interface Item {
  readonly commit: Commit
  readonly nth: number
  readonly stored: StoredMessage
  /** How long it had been committed when it was read. */
  readonly lagMs: number
}

/** What is to be deleted, or is. */
export interface Removable {
  readonly items: readonly Item[]
  readonly commits: readonly Commit[]
}

/** One read, as it was begun. */
interface Reading {
  readonly owned: ReadonlyMap<number, Owned>
  readonly turn: number
  /** How many rows were asked for. */
  readonly limit: number
  readonly settled: number
}

/**
 * Which messages have been read, published, deleted. A read begins where all is settled and known, and gives what has not been read: positions
 * become visible in the order of commits for one key, not for all.
 * @internal
 */
export class RelayWindow {
  #after = 0
  #turn = 0
  readonly #published = new Set<Item>()
  /** Nothing of theirs is left that has been read. */
  readonly #drained = new Set<Commit>()

  /** @param most messages that one read may give */
  constructor(private readonly most: number) {}

  /** Begins from the start, for partitions have come. */
  rewind(): void {
    this.#after = 0
    this.#turn++
  }

  /** Where to read from, and how much of it is known already. */
  begin(owned: ReadonlyMap<number, Owned>): { after: number; overlap: number; turn: number } {
    let overlap = 0
    for (const { commits } of owned.values())
      for (const { pos, kept } of commits.values()) if (pos > this.#after) overlap += Math.max(1, kept)
    return { after: this.#after, overlap, turn: this.#turn }
  }

  /** @param rows in the order of positions @returns those that are new */
  take(rows: readonly SqlRow[], { owned, turn, limit, settled }: Reading): readonly Item[] {
    const items: Item[] = []
    let cutAt = rows.length >= limit ? Number(rows.at(-1)?.['pos']) : undefined
    for (const row of rows) {
      const of = owned.get(Number(row['partition']))!
      const pos = Number(row['pos'])
      const nth = Number(row['nth'])
      const known = of.commits.get(pos)
      const isNew = row['nth'] !== null && !known?.taken.has(nth)
      if (isNew && items.length === this.most) {
        if (known) known.complete = false
        cutAt = pos // others were deleted meanwhile, and so there was room for more
        break
      }
      const commit: Commit = known ?? {
        ...{ owned: of, pos, batch: Number(row['batch']), taken: new Set(), left: 0, kept: 0, complete: false },
      }
      of.commits.set(pos, commit)
      commit.complete = pos !== cutAt || row['nth'] === null
      if (isNew) {
        commit.taken.add(nth)
        commit.left++
        commit.kept++
        this.#drained.delete(commit)
        items.push({ commit, nth, stored: storedOf(row, 'occurred_at'), lagMs: Number(row['lag_ms']) })
      } else if (commit.left === 0) this.#drained.add(commit)
    }
    if (turn === this.#turn)
      this.#after = Math.max(this.#after, cutAt === undefined ? settled : Math.min(settled, cutAt - 1))
    return items
  }

  /** They are published, or parked. */
  done(items: readonly Item[]): void {
    for (const item of items) {
      this.#published.add(item)
      if (--item.commit.left === 0) this.#drained.add(item.commit)
    }
  }

  /** What is to be deleted now. */
  get removable(): Removable {
    return { items: [...this.#published], commits: [...this.#drained].filter(({ complete }) => complete) }
  }

  /** After a read that began before it has been taken in: that must not take them for new. */
  removed({ items, commits }: Removable): void {
    for (const item of items) {
      this.#published.delete(item)
      item.commit.kept--
    }
    for (const commit of commits) {
      this.#drained.delete(commit)
      commit.owned.commits.delete(commit.pos)
    }
  }
}
