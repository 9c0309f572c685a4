/** The right to work for a subscription, and where its work stands. */
export interface SubscriptionLease {
  /** Rises with each new owner: what an earlier one tries to commit is refused. Integer ≥ 1. */
  readonly epoch: number
  /** What was last committed; `undefined` before the first commit under this name. */
  readonly position: number | undefined
}

/** An event that a handler could not handle, and that was passed by. */
export interface Parked {
  /** Where it stands in the log: `readPage({ after: position - 1, limit: 1 })` gives it. */
  readonly position: number
  /** Name of its stream. */
  readonly streamId: string
  /** Its place in the stream. */
  readonly version: number
  /** How often the handler tried. */
  readonly attempts: number
  /** Message of the last error. */
  readonly error: string
}

/**
 * How far each subscription has come, and who works for it. Contract: `test/conformance/checkpoints.ts`. `Tx` is the
 * transaction that handlers write in, so that their work and the checkpoint commit together; `undefined` where the
 * checkpoints have none: then a handler's work may be repeated after a crash, and is never left out.
 */
export interface Checkpoints<Tx = undefined> {
  /**
   * Takes the lease on `name` for `ttlMs` milliseconds, or renews it if `owner` was the last to hold it (same epoch).
   * @returns `undefined` while another owner holds it.
   */
  acquire(name: string, owner: string, ttlMs: number): Promise<SubscriptionLease | undefined>

  /** What was last committed, by whomever; `undefined` before the first commit. Takes no lease. */
  position(name: string): Promise<number | undefined>

  /**
   * Runs `work` and moves the checkpoint from `from` to `to`, both or neither.
   * @throws FencedError when `epoch` is not the last, or the checkpoint is not at `from`: nothing was committed, `work` was
   * rolled back (where there is a transaction) or did not run. What `work` throws comes out: nothing was committed.
   */
  commit(
    name: string,
    epoch: number,
    from: number | undefined,
    to: number,
    work: (tx: Tx) => Promise<void>,
  ): Promise<void>

  /** Moves the checkpoint past an event that could not be handled, and keeps note of it, in one step. @throws FencedError as {@link commit}. */
  park(name: string, epoch: number, from: number | undefined, event: Parked): Promise<void>

  /** What was parked under `name`, in order of position. */
  parked(name: string): Promise<readonly Parked[]>

  /** Gives the lease back, so that another may take it at once. No effect when `epoch` is not the last. */
  release(name: string, epoch: number): Promise<void>
}
