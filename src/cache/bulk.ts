import { onAbort } from '../kernel/signal.js'
import { ABSENT } from './fetcher.js'
import type { LoadContext } from './options.js'

/** Loads several keys at once and gives what it found; a key it leaves out is not stored. */
export type ManyLoader<K extends string, V> = (
  missing: readonly K[],
  context: { readonly signal: AbortSignal },
) => Promise<ReadonlyMap<K, V>>

interface Wanted<K> {
  readonly key: K
  readonly context: LoadContext<unknown>
  readonly settle: { readonly resolve: (value: unknown) => void; readonly reject: (error: unknown) => void }
}

/** Gathers the keys of one `getOrSetMany` that have to be loaded here, until it is known of every key whether it is one of them. */
export class Bulk<K extends string> {
  readonly #undecided: Set<K>
  #wanted: Wanted<K>[] = []
  #flushing = false

  constructor(
    keys: Iterable<K>,
    private readonly load: ManyLoader<K, unknown>,
  ) {
    this.#undecided = new Set(keys)
  }

  /** The loader of one key. */
  want(key: K, context: LoadContext<unknown>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#wanted.push({ key, context, settle: { resolve, reject } })
      this.decided(key)
      this.#flushSoon()
    })
  }

  /** The key is found, or loaded by somebody else. */
  decided(key: K): void {
    if (this.#undecided.delete(key)) this.#flushSoon()
  }

  #flushSoon(): void {
    if (this.#flushing || this.#undecided.size > 0 || this.#wanted.length === 0) return
    this.#flushing = true
    process.nextTick(() => {
      this.#flushing = false
      const wanted = this.#wanted
      this.#wanted = []
      void this.#flush(wanted)
    })
  }

  async #flush(wanted: readonly Wanted<K>[]): Promise<void> {
    const controller = new AbortController()
    let waiting = wanted.length
    const forget = wanted.map(({ context: { signal } }) =>
      onAbort(signal, () => {
        if (--waiting === 0) controller.abort(signal.reason)
      }),
    )
    try {
      const keys = wanted.map(({ key }) => key)
      const values = await this.load(keys, { signal: controller.signal })
      for (const { key, settle } of wanted) settle.resolve(values.has(key) ? values.get(key) : ABSENT)
    } catch (error) {
      for (const { settle } of wanted) settle.reject(error)
    } finally {
      for (const stop of forget) stop()
    }
  }
}
