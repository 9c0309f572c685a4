/** Turns when a tag was invalidated last, in any way and for good. One cell is shared by all entries that carry the tag. */
export interface TagCell {
  readonly name: string
  any: number
  hard: number
  /** Lists that begin with it: entries with the same tags share one. */
  lists: (readonly TagCell[])[] | undefined
}

/** What happened to a key while something is under way for it. */
interface KeyFence {
  refs: number
  any: number
  hard: number
  /** Turn at which a fresh value was last found in the second level. */
  found: number
  /** Turn of the last value put into the first level. */
  put: number
  /** Turn at which the newest load began whose value was put. */
  load: number
}

/** How many lists a cell remembers. */
const MOST_LISTS = 16

/** Fewer cells than this are not worth a sweep. */
const SWEEP_MIN = 1024

/**
 * The order of things in this process: every invalidation, every start of a read or load and every put into the first level is
 * a turn of one counter. A value may be handed on only if nothing that concerns it was invalidated after its own start. No
 * clocks, so nothing is lost within one millisecond.
 */
export class Fences {
  /** How many invalidations there were. */
  changes = 0
  #turn = 0
  #cleared = 0
  /** Turn at which changes were found to have been missed. */
  #dropped = 0
  /** Turn of the last sweep: what began before it may have lost a cell it would have to look at. */
  #swept = 0
  #sweepAt = SWEEP_MIN
  readonly #keys = new Map<string, KeyFence>()
  readonly #tags = new Map<string, TagCell>()

  /** @param inUse the cells that entries in the first level look at, for the sweep of all others. */
  constructor(private readonly inUse: () => Iterable<TagCell>) {}

  /** The present turn. */
  get turn(): number {
    return this.#turn
  }

  /** Marks a start; {@link Watch.end} must follow. */
  watch(key: string): Watch {
    let fence = this.#keys.get(key)
    if (!fence) this.#keys.set(key, (fence = { refs: 0, any: 0, hard: 0, found: 0, put: 0, load: 0 }))
    fence.refs++
    return new Watch(this, key, ++this.#turn)
  }

  /** A key is invalidated, or set. */
  moveKey(key: string, soft: boolean): void {
    this.changes++
    const turn = ++this.#turn
    const fence = this.#keys.get(key)
    if (!fence) return // nothing is under way for it
    fence.any = turn
    if (!soft) fence.hard = turn
  }

  moveTag(tag: string, soft: boolean): void {
    this.changes++
    const turn = ++this.#turn
    this.tidy()
    const cell = this.cell(tag)
    cell.any = turn
    if (!soft) cell.hard = turn
  }

  moveAll(): void {
    this.changes++
    this.#cleared = ++this.#turn
  }

  /** Changes of the second level were missed: anything that began before may be older than one of them. */
  drop(): void {
    this.changes++
    this.#dropped = ++this.#turn
  }

  /** The cell of a tag; the same one for all until a sweep finds that no entry looks at it. */
  cell(tag: string): TagCell {
    let cell = this.#tags.get(tag)
    if (!cell) this.#tags.set(tag, (cell = { name: tag, any: 0, hard: 0, lists: undefined }))
    return cell
  }

  /** The cells of an entry's tags, of which there is at least one; mostly the same list for the same tags. */
  cells(tags: readonly [string, ...string[]]): readonly TagCell[] {
    const { lists } = this.cell(tags[0])
    const known = lists?.find(
      (list) => list.length === tags.length && list.every((cell, i) => cell === this.#tags.get(tags[i] as string)),
    )
    if (known) return known
    const list = tags.map((tag) => this.cell(tag))
    const first = list[0] as TagCell
    first.lists = [list, ...(lists ?? []).slice(0, MOST_LISTS - 1)]
    return list
  }

  /** Forgets the cells that no entry looks at, once there are many. Not while the cells of an entry are being gathered. */
  tidy(): void {
    if (this.#tags.size < this.#sweepAt) return
    const live = new Set(this.inUse())
    for (const [tag, cell] of this.#tags) if (!live.has(cell)) this.#tags.delete(tag)
    this.#swept = ++this.#turn
    this.#sweepAt = Math.max(SWEEP_MIN, 2 * this.#tags.size)
  }

  /** @internal Whether changes were missed after `turn`. */
  droppedSince(turn: number): boolean {
    return this.#dropped > turn
  }

  /** @internal Whether `key`, one of `tags` or everything was invalidated (`hard`: for good) after `turn`. */
  movedSince(turn: number, key: string, tags: readonly string[], kind: 'any' | 'hard'): boolean {
    if (this.#cleared > turn || (this.#keys.get(key)?.[kind] ?? 0) > turn) return true
    if (tags.length === 0) return false
    return this.#swept > turn || tags.some((tag) => (this.#tags.get(tag)?.[kind] ?? 0) > turn)
  }

  /** @internal */
  fence(key: string): KeyFence | undefined {
    return this.#keys.get(key)
  }

  /** @internal */
  markFound(key: string): void {
    const fence = this.#keys.get(key)
    if (fence) fence.found = ++this.#turn
  }

  /** @internal */
  markPut(key: string, loadStart: number): void {
    const fence = this.#keys.get(key)
    if (!fence) return
    fence.put = ++this.#turn
    fence.load = Math.max(fence.load, loadStart)
  }

  /** @internal */
  release(key: string): void {
    const fence = this.#keys.get(key)
    if (fence && --fence.refs === 0) this.#keys.delete(key)
  }
}

/** One read or load under way: says whether what it brings is still worth anything. */
export class Watch {
  #ended = false

  /** @internal */
  constructor(
    private readonly fences: Fences,
    readonly key: string,
    /** The turn at which it began. */
    readonly start: number,
  ) {}

  /** Whether its key, one of `tags` or everything was invalidated, or may have been, since it began, or since a later turn. */
  outdated(tags: readonly string[], since: number = this.start): boolean {
    return this.fences.droppedSince(since) || this.fences.movedSince(since, this.key, tags, 'any')
  }

  /** As {@link outdated}, leaving out what was only expired and may still serve for grace. */
  gone(tags: readonly string[]): boolean {
    return this.fences.droppedSince(this.start) || this.fences.movedSince(this.start, this.key, tags, 'hard')
  }

  /** Whether a value read from the second level may go into the first: nothing newer was put there meanwhile. */
  mayPutRead(tags: readonly string[]): boolean {
    return !this.outdated(tags) && (this.fences.fence(this.key)?.put ?? 0) < this.start
  }

  /**
   * Whether a loaded value may be offered to the second level: no load that began later was stored meanwhile. What was missed
   * here does not matter there: the lease would be void.
   */
  mayFill(tags: readonly string[]): boolean {
    return (
      !this.fences.movedSince(this.start, this.key, tags, 'any') &&
      (this.fences.fence(this.key)?.load ?? 0) < this.start
    )
  }

  /** Whether a loaded value may go into the first level. */
  mayPutLoad(tags: readonly string[]): boolean {
    return this.mayFill(tags) && !this.fences.droppedSince(this.start)
  }

  /** To be called with each fresh value found in the second level. */
  found(): void {
    this.fences.markFound(this.key)
  }

  /** Whether a fresh value was found since it began: a load under way since then may bring an older one. */
  get overtaken(): boolean {
    return (this.fences.fence(this.key)?.found ?? 0) > this.start
  }

  /** To be called with each value put into the first level. */
  put(loaded: boolean): void {
    this.fences.markPut(this.key, loaded ? this.start : 0)
  }

  /** Harmless when called again. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.fences.release(this.key)
  }
}
