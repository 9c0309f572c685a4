import { checkNumber, invalid } from '../kernel/check.js'
import type { Flight, Stale } from './flight.js'
import { checkTags, type LoadContext, type StaleValue } from './options.js'

/** What one loader is given, and what it made of it. */
export class Loading implements LoadContext<unknown> {
  readonly stale: StaleValue<unknown> | undefined
  ttlMs: number
  graceMs: number
  tags: readonly string[]
  etag: string | undefined
  stored = true

  constructor(
    private readonly flight: Flight,
    stale: Stale | undefined,
    now: number,
    give: (value: unknown) => unknown,
  ) {
    const { plan } = flight.request
    this.ttlMs = plan.ttlMs
    this.graceMs = plan.graceMs
    this.tags = flight.tags
    if (stale) this.stale = { value: give(stale.value), ageMs: now - stale.storedAt, etag: stale.etag }
  }

  get key(): string {
    return this.flight.request.name
  }

  get signal(): AbortSignal {
    return this.flight.controller.signal
  }

  // Functions of their own, so that a loader may take them out: `({ set, uncached }) => …`.

  readonly set = ({ ttlMs, graceMs, tags, etag }: Parameters<LoadContext<unknown>['set']>[0]): void => {
    if (ttlMs !== undefined) this.ttlMs = checkNumber('ttlMs', ttlMs, 0, Number.MAX_SAFE_INTEGER)
    if (graceMs !== undefined) this.graceMs = checkNumber('graceMs', graceMs, 0, Number.MAX_SAFE_INTEGER)
    if (tags !== undefined) this.tags = union(this.tags, checkTags(tags).map(this.flight.request.tagName))
    if (etag !== undefined) this.etag = etag
  }

  readonly notModified = (): unknown => {
    if (!this.stale) return invalid('notModified', 'an old value to keep', undefined)
    this.etag ??= this.stale.etag
    this.tags = union(this.tags, this.flight.stale?.tags ?? [])
    return this.stale.value
  }

  readonly uncached = <T>(value: T): T => {
    this.stored = false
    return value
  }
}

const union = (a: readonly string[], b: readonly string[]): readonly string[] => [...new Set([...a, ...b])]
