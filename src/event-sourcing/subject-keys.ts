import { checkString } from '../kernel/check.js'
import { ShreddedError } from './errors.js'
import { newKey } from './seal.js'

/**
 * One key per person (or whatever a subject is), under which their fields in events are encrypted. Without the key they
 * can't be read by anybody, backups of the log included, as long as there is no backup of the keys. Contract: `test/conformance/subject-keys.ts`.
 */
export interface SubjectKeys {
  /** The subject's key, 32 bytes; made if there was none: of calls at the same time all get the same. @throws ShreddedError. */
  ensure(subject: string): Promise<Uint8Array>
  /** The keys there are; none of a subject that has none any more or had none ever. */
  get(subjects: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>>
  /** Destroys the subject's key, for good. There will be no other: not for a subject that had none, either. Again: no change. */
  shred(subject: string): Promise<void>
}

/** Keys in this process's memory: for tests. When it ends, what was encrypted is lost. */
export class MemorySubjectKeys implements SubjectKeys {
  readonly #keys = new Map<string, Uint8Array | undefined>()

  async ensure(subject: string): Promise<Uint8Array> {
    if (!this.#keys.has(checkString('subject', subject))) this.#keys.set(subject, newKey())
    const key = this.#keys.get(subject)
    if (!key) throw new ShreddedError(subject)
    return key
  }

  async get(subjects: readonly string[]): Promise<ReadonlyMap<string, Uint8Array>> {
    const found = new Map<string, Uint8Array>()
    for (const subject of subjects) {
      const key = this.#keys.get(subject)
      if (key) found.set(subject, key)
    }
    return found
  }

  async shred(subject: string): Promise<void> {
    this.#keys.set(checkString('subject', subject), undefined)
  }
}
