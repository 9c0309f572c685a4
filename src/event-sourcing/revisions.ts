import type { Checkpoints } from './checkpoints.js'

/** How a revision stands to the live one. */
export interface Standing {
  /** Rises with each time that the revision was set up; `undefined`: it is not. */
  readonly generation: number | undefined
  /** The revision that readers see. */
  readonly live: number
  /** What the live revision has committed. */
  readonly mark: number
  /** Whether this revision is to become the live one. */
  readonly wanted: boolean
}

/** One revision of one projection. */
export interface RevisionId {
  readonly name: string
  readonly revision: number
}

/** Where the revisions of read models stand, beside their tables. */
export interface Revisions<Tx> {
  readonly checkpoints: Checkpoints<Tx>
  /** The transaction of an append, as projections are given it. */
  enlist(tx: unknown): Tx
  /** What `table` is called in a revision. */
  tableName(table: string, id: RevisionId): string
  /** Runs `setup` if that was not done, in a transaction. The first revision of a name becomes the live one. @returns the generation */
  setUp(id: RevisionId, setup: (tx: Tx, name: (table: string) => string) => Promise<void>): Promise<number>
  /** `undefined` for a name without any revision. */
  standing(id: RevisionId): Promise<Standing | undefined>
  /** Notes that the revision is to become the live one: done by whoever builds it. */
  want(id: RevisionId): Promise<void>
  /**
   * Makes the revision the live one, if it can be brought to where the live one is now: its owner is fenced off.
   * @param drain projects up to a position in the transaction; `false`: that can't be done now. `mayRead`: whether the log
   * can be read meanwhile
   * @returns where both are; `undefined` when nothing was done: it is to be tried again
   */
  switchTo(
    id: RevisionId,
    held: { readonly epoch: number; readonly position: number },
    drain: (tx: Tx, to: number, mayRead: boolean) => Promise<boolean>,
  ): Promise<number | undefined>
  /** Removes everything of it. @throws InvalidOptionError when it is live. */
  discard(id: RevisionId, drop: ((tx: Tx) => Promise<void>) | undefined): Promise<void>
}

/** Name of a revision's checkpoint. */
export const checkpointOf = ({ name, revision }: RevisionId): string => `${name}@v${revision}`
