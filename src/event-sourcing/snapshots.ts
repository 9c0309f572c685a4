/** A state as it was kept. */
export interface Snapshot {
  /** Version of the last event in it. */
  readonly version: number
  /** As it was given to `put`: whatever the JSON codec keeps. */
  readonly state: unknown
}

/**
 * Keeps states, so that not every event has to be read again. May lose any of them at any time: that costs time, nothing else.
 * Contract: `test/conformance/snapshot-store.ts`.
 */
export interface SnapshotStore {
  /** The newest snapshot of `stream` that was made by this `revision` of the code, of `maxVersion` or below. @defaultValue no bound */
  get(stream: string, revision: number, maxVersion?: number): Promise<Snapshot | undefined>
  /** Keeps `state` beside those of other versions and revisions; the same version and revision again: the newer one counts. */
  put(stream: string, revision: number, version: number, state: unknown): Promise<void>
  /** Forgets all of `stream`, of every revision. */
  drop(stream: string): Promise<void>
}
