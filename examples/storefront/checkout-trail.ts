import type { CheckoutKind, CheckoutStatus, CheckoutsView, StepState } from './checkout.js'

const KEPT = 200

interface Trail {
  readonly at: number
  readonly steps: Map<string, StepState>
  turnedBack: boolean
  parked: boolean
  status: CheckoutStatus
  /** Monotonic milliseconds. */
  movedAt: number
}

/** How a checkout stands, by whoever knows. */
export interface Standing {
  readonly steps: readonly (readonly [name: string, state: StepState])[]
  readonly turnedBack: boolean
  readonly parked: boolean
}

/**
 * How each checkout stands, step by step, as the page shows it. A saga could be asked; of a choreography nobody is in charge,
 * so nobody knows how it stands, unless someone listens and writes it down. This does, and decides nothing.
 */
export class CheckoutTrails {
  readonly #trails = new Map<string, Trail>()
  readonly #counts: Record<CheckoutStatus, number> = {
    running: 0,
    completed: 0,
    compensating: 0,
    compensated: 0,
    parked: 0,
  }

  constructor(
    private readonly kind: CheckoutKind,
    private readonly steps: readonly string[],
  ) {}

  /** @returns whether it is new */
  begin(orderId: string): boolean {
    if (this.#trails.has(orderId)) return false
    const steps = new Map<string, StepState>(this.steps.map((name, i) => [name, i === 0 ? 'running' : 'waiting']))
    this.#trails.set(orderId, {
      ...{ at: Date.now(), steps, status: 'running', movedAt: performance.now() },
      turnedBack: false,
      parked: false,
    })
    this.#counts.running++
    for (const [oldest, { status }] of this.#trails) {
      if (this.#trails.size <= KEPT) break
      if (status === 'completed' || status === 'compensated') this.#trails.delete(oldest)
    }
    return true
  }

  /** Step `name` has come to `state`; the next one runs when it is done. */
  mark(orderId: string, name: string, state: StepState): void {
    const trail = this.#trails.get(orderId)
    if (!trail) return
    trail.steps.set(name, state)
    trail.parked = false
    const next = this.steps[this.steps.indexOf(name) + 1]
    if (state === 'done' && next && !trail.turnedBack) trail.steps.set(next, 'running')
    this.#settle(trail)
  }

  /** The order is cancelled: what is done must be undone, what has not begun never will. */
  turnBack(orderId: string): void {
    const trail = this.#trails.get(orderId)
    if (!trail) return
    trail.turnedBack = true
    for (const [name, state] of trail.steps) if (state === 'running') trail.steps.set(name, 'waiting')
    this.#settle(trail)
  }

  /** It waits for somebody to decide. */
  park(orderId: string): void {
    const trail = this.#trails.get(orderId)
    if (!trail) return
    trail.parked = true
    this.#settle(trail)
  }

  /** How it really stands: somebody asked. */
  set(orderId: string, { steps, turnedBack, parked }: Standing): void {
    const trail = this.#trails.get(orderId)
    if (!trail) return
    for (const [name, state] of steps) trail.steps.set(name, state)
    Object.assign(trail, { turnedBack, parked })
    this.#settle(trail)
  }

  /** Orders that have not ended and of which nothing was heard for `ms` milliseconds, longest first; at most `limit`. */
  silent(ms: number, limit: number): string[] {
    const before = performance.now() - ms
    return [...this.#trails]
      .filter(([, { status, movedAt }]) => status !== 'completed' && status !== 'compensated' && movedAt <= before)
      .toSorted(([, a], [, b]) => a.movedAt - b.movedAt)
      .slice(0, limit)
      .map(([orderId]) => orderId)
  }

  view(limit: number): CheckoutsView {
    const newest = [...this.#trails].slice(-limit).toReversed()
    const recent = newest.map(([orderId, { at, status, steps }]) => ({
      orderId,
      kind: this.kind,
      at,
      status,
      steps: [...steps].map(([name, state]) => ({ name, state })),
    }))
    return { counts: { ...this.#counts }, recent }
  }

  #settle(trail: Trail): void {
    this.#counts[trail.status]--
    trail.status = statusOf(trail)
    trail.movedAt = performance.now()
    this.#counts[trail.status]++
  }
}

function statusOf({ steps, turnedBack, parked }: Trail): CheckoutStatus {
  if (parked) return 'parked'
  const states = [...steps.values()]
  if (!turnedBack) return states.every((state) => state === 'done') ? 'completed' : 'running'
  return states.some((state) => state === 'done' || state === 'unknown' || state === 'stuck')
    ? 'compensating'
    : 'compensated'
}
