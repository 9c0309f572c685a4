import { placeOf, storedOf, type CommitPlace, type PageRow } from './postgres-outbox-rows.js'
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
  /** By the server's clock. */
  readonly at: number
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
  /** How many of the commit were read before it: between two that follow each other there is no other. */
  readonly order: number
  readonly stored: StoredMessage
  /** How long it had been committed when it was read. */
  readonly lagMs: number
}

/** What is to be deleted, or is. */
export interface Removable {
  readonly items: readonly Item[]
  readonly commits: readonly Commit[]
}

/** A place among all messages: what is below this position, and in it the messages up to the `nth`, is behind it. */
export interface Place {
  readonly pos: number
  readonly nth: number
}

/** One read, as it was begun. */
interface Reading {
  readonly owned: ReadonlyMap<number, Owned>
  readonly turn: number
  /** How many rows were asked for. */
  readonly limit: number
  readonly settled: number
}

const START: Place = { pos: 0, nth: 0 }
const NOWHERE: CommitPlace = { text: '', pos: 0, batch: 0, partition: 0, lagMs: 0, at: 0 }

/**
 * Which messages have been read, published, deleted. A read begins where all is settled and known, and gives what has not been read: positions
 * become visible in the order of commits for one key, not for all.
 * @internal
 */
export class RelayWindow {
  #from = START
  #turn = 0
  readonly #published = new Set<Item>()
  /** Nothing of theirs is left that has been read. */
  readonly #drained = new Set<Commit>()

  /** @param most messages that one read may give */
  constructor(private readonly most: number) {}

  /** Begins from the start, for partitions have come, or the server may be another one. */
  rewind(): void {
    this.#from = START
    this.#turn++
  }

  /** Where to read from, and how much of it is known already. */
  begin(owned: ReadonlyMap<number, Owned>): { from: Place; overlap: number; turn: number } {
    const from = this.#from
    let overlap = 0
    for (const { commits } of owned.values())
      for (const { pos, kept } of commits.values())
        if (pos > from.pos || (pos === from.pos && from.nth === 0)) overlap += Math.max(1, kept)
    return { from, overlap, turn: this.#turn }
  }

  /** @param rows in the order of positions @returns those that are new */
  take(rows: readonly PageRow[], { owned, turn, limit, settled }: Reading): readonly Item[] {
    const items: Item[] = []
    const last = rows.length >= limit ? rows.at(-1) : undefined
    let cut = last && { pos: placeOf(last.commit).pos, nth: last.nth ?? Infinity }
    let place = NOWHERE
    let commit: Commit | undefined
    for (const row of rows) {
      if (row.commit !== place.text) {
        place = placeOf(row.commit)
        commit = owned.get(place.partition)!.commits.get(place.pos)
        if (commit?.at !== place.at) commit = undefined // a position that was given twice, by a server that has forgotten the first
      }
      const { nth } = row
      const isNew = nth !== null && !commit?.taken.has(nth)
      if (isNew && items.length === this.most) {
        if (commit) commit.complete = false
        cut = { pos: place.pos, nth: nth - 1 } // others were deleted meanwhile, and so there was room for more
        break
      }
      commit ??= begun(place, owned.get(place.partition)!)
      commit.complete = place.pos !== cut?.pos || nth === null
      if (isNew) {
        items.push({ commit, nth, order: commit.taken.size, stored: storedOf(row, 'occurred_at'), lagMs: place.lagMs })
        commit.taken.add(nth)
        commit.left++
        commit.kept++
        this.#drained.delete(commit)
      } else if (commit.left === 0) this.#drained.add(commit)
    }
    // Of a server that has forgotten some, as after a fail-over, or while a transaction marks itself that was slow to do so.
    if (settled + 1 < this.#from.pos) this.rewind()
    else if (turn === this.#turn)
      this.#advance(cut === undefined || cut.pos > settled ? { pos: settled + 1, nth: 0 } : cut)
    return items
  }

  #advance({ pos, nth }: Place): void {
    const to = nth === Infinity ? { pos: pos + 1, nth: 0 } : { pos, nth }
    if (to.pos > this.#from.pos || (to.pos === this.#from.pos && to.nth > this.#from.nth)) this.#from = to
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
      const { commits: known } = commit.owned
      if (known.get(commit.pos) === commit) known.delete(commit.pos) // it may have been given to another since
    }
  }
}

function begun({ pos, batch, at }: CommitPlace, owned: Owned): Commit {
  const commit = { owned, pos, batch, at, taken: new Set<number>(), left: 0, kept: 0, complete: false }
  owned.commits.set(pos, commit)
  return commit
}
