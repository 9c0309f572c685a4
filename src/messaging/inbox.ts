/**
 * Remembers what each group has handled, in the transaction in which it was handled: so the effect of a message counts exactly once,
 * however often it is delivered. Contract: `test/conformance/inbox.ts`.
 */
export interface Inbox<Tx = unknown> {
  /**
   * Runs `work` unless the message has been handled for this group, and remembers it in the transaction that `work` is given. A call for a
   * message that is being handled elsewhere waits for that: it is not run if that commits, and run if it is rolled back.
   * @returns whether `work` was run
   * @throws what `work` threw: rolled back, and not remembered. StoreError: it may or may not have been committed; again is safe.
   */
  once(group: string, id: string, work: (tx: Tx) => Promise<void>): Promise<boolean>
}
