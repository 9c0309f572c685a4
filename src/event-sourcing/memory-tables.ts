/** A table of a read model in memory, as it stands in a transaction. */
export interface MemoryTable<V> {
  /** `undefined` when there is none. */
  get(key: string): V | undefined
  /** Whether there is a row with this key. */
  has(key: string): boolean
  /** Puts a row in its place. Put a new value instead of changing the old one: what is changed can't be rolled back. */
  set(key: string, value: V): void
  /** Removes a row. */
  delete(key: string): void
  /** All rows, those of this transaction last. */
  entries(): IterableIterator<[string, V]>
}

/** A transaction on tables in memory: others see what is written when it commits, all at once. */
export interface MemoryTransaction {
  /** The table of this name, which `context.name(…)` gave. It is made by the first row. */
  table<V = unknown>(name: string): MemoryTable<V>
}

const GONE = Symbol('gone')
type Rows = Map<string, unknown>

/** Tables by name. */
export class MemoryTables {
  readonly #tables = new Map<string, Rows>()

  get(name: string): ReadonlyMap<string, unknown> {
    return this.#tables.get(name) ?? new Map()
  }

  drop(name: string): void {
    this.#tables.delete(name)
  }

  begin(): MemoryTransaction & { apply(): void } {
    const drafts = new Map<string, Draft>()
    const draft = (name: string): Draft => {
      let found = drafts.get(name)
      if (!found) drafts.set(name, (found = new Draft(this.get(name))))
      return found
    }
    const apply = (): void => {
      for (const [name, { changes }] of drafts) {
        let rows = this.#tables.get(name)
        if (!rows) this.#tables.set(name, (rows = new Map()))
        for (const [key, value] of changes)
          if (value === GONE) rows.delete(key)
          else rows.set(key, value)
      }
    }
    return { table: <V>(name: string) => draft(name) as unknown as MemoryTable<V>, apply }
  }
}

class Draft implements MemoryTable<unknown> {
  readonly changes: Rows = new Map()

  constructor(private readonly rows: ReadonlyMap<string, unknown>) {}

  get(key: string): unknown {
    const changed = this.changes.get(key)
    if (changed === GONE) return undefined
    return this.changes.has(key) ? changed : this.rows.get(key)
  }

  has(key: string): boolean {
    return this.changes.has(key) ? this.changes.get(key) !== GONE : this.rows.has(key)
  }

  set(key: string, value: unknown): void {
    this.changes.set(key, value)
  }

  delete(key: string): void {
    this.changes.set(key, GONE)
  }

  *entries(): IterableIterator<[string, unknown]> {
    for (const row of this.rows) if (!this.changes.has(row[0])) yield row
    for (const row of this.changes) if (row[1] !== GONE) yield row
  }
}
