import type { Backoff } from '../kernel/backoff.js'
import type { Unsubscribe } from '../kernel/emitter.js'

/** How a relay works. */
export interface RelayOptions {
  /** Most messages published at once. Integer in [1, 1000]. @defaultValue 500 */
  readonly batchSize?: number | undefined
  /** How long a relay that does not answer keeps its partitions, in milliseconds. > 0. @defaultValue 10_000 */
  readonly leaseMs?: number | undefined
  /** How often an idle relay looks by itself, in milliseconds. > 0. @defaultValue 1_000 */
  readonly pollMs?: number | undefined
  /**
   * How long the bus may take for one `publish`, in milliseconds. > 0. Then it counts as failed and is called again; whichever call
   * succeeds first counts. Each call for the same messages may take twice as long as the one before, up to 16 times as long.
   * @defaultValue half of `leaseMs`
   */
  readonly publishTimeoutMs?: number | undefined
  /** The wait before messages are published again, when the bus did not take them. @defaultValue 100 ms, doubled each time up to 5 s */
  readonly backoff?: Backoff | undefined
  /**
   * Whether the bus will never take a message that it refused with this error: it is parked, and the others go on.
   * @defaultValue this library's errors of wrong payloads and options, and UnroutedError
   */
  readonly parkOn?: ((error: unknown) => boolean) | undefined
  /** How long `close()` waits for what is being published, in milliseconds, ≥ 0. @defaultValue 10_000 */
  readonly graceMs?: number | undefined
}

/** What stands in an outbox. */
export interface OutboxStats {
  /** Messages that are committed and not yet published. */
  readonly waiting: number
  /** Messages that the bus has refused for good. */
  readonly parked: number
  /** How long the oldest that waits has been committed, in milliseconds; 0 when none waits. */
  readonly lagMs: number
}

/** What a relay tells its listeners. */
export interface OutboxRelayEvents {
  /** The bus has taken so many. `lagMs`: how long the oldest of them had been committed when it was read. */
  readonly published: { readonly count: number; readonly lagMs: number }
  /** The bus has refused a message for good. */
  readonly parked: { readonly id: string; readonly type: string; readonly error: unknown }
  /** The bus or the database did not do what it was asked for: again in so many milliseconds. */
  readonly failed: {
    readonly what: 'publish' | 'read' | 'remove' | 'park' | 'lease'
    readonly error: unknown
    readonly retryInMs: number
  }
  /** The partitions that it owns from now on. */
  readonly partitions: { readonly owned: readonly number[] }
}

/** A relay at work. */
export interface OutboxRelay {
  /** The partitions that it owns now. */
  readonly partitions: readonly number[]
  /** Calls `listener` at each event `name` until the returned function is called. @throws InvalidOptionError when it is no function. */
  on<Name extends keyof OutboxRelayEvents>(
    name: Name,
    listener: (event: OutboxRelayEvents[Name]) => unknown,
  ): Unsubscribe
  /** How much waits in the outbox, of all partitions, and for how long. @throws StoreError */
  stats(): Promise<OutboxStats>
  /**
   * Begins no other batch, waits up to `graceMs` for the one that is being published, and gives its partitions to others; a database
   * that does not answer is waited for no longer than `leaseMs`. Never rejects. Calling it again gives the same promise.
   */
  close(): Promise<void>
  /** {@link close} */
  [Symbol.asyncDispose](): Promise<void>
}
