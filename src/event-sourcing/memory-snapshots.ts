import { jsonCodec } from '../kernel/codec.js'
import type { Snapshot, SnapshotStore } from './snapshots.js'

/** Snapshots in this process's memory, as text. Keeps all until they are dropped. */
export class MemorySnapshots implements SnapshotStore {
  /** By stream and revision, in order of version. */
  readonly #streams = new Map<string, Map<number, { version: number; text: string }[]>>()

  async get(stream: string, revision: number, maxVersion: number = Infinity): Promise<Snapshot | undefined> {
    const found = this.#streams
      .get(stream)
      ?.get(revision)
      ?.findLast(({ version }) => version <= maxVersion)
    return found && { version: found.version, state: jsonCodec.decode(found.text) }
  }

  async put(stream: string, revision: number, version: number, state: unknown): Promise<void> {
    const text = jsonCodec.encode(state)
    let revisions = this.#streams.get(stream)
    if (!revisions) this.#streams.set(stream, (revisions = new Map()))
    const others = (revisions.get(revision) ?? []).filter((kept) => kept.version !== version)
    others.push({ version, text })
    revisions.set(
      revision,
      others.toSorted((a, b) => a.version - b.version),
    )
  }

  async drop(stream: string): Promise<void> {
    this.#streams.delete(stream)
  }
}
