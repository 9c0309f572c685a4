import {
  MemorySagaStore,
  SagaOrchestrator,
  type SagaDefinition,
  type SagaOrchestratorOptions,
  type SagaStore,
  type SagaTransaction,
} from '../../src/saga/index.js'
import { ManualClock, seededRandom, settle } from '../../src/testing/index.js'

/** A store whose writes are counted, and whose owner may be cut off from it. */
export interface Line {
  readonly store: SagaStore
  readonly calls: {
    create: number
    claim: number
    renew: number
    commit: number
    read: number
    deliver: number
    transaction: number
  }
  /** Transitions that were written. */
  transitions: number
  /** What transactions have asked their database to do, of those that were committed. */
  readonly effects: string[]
  /** From now on every call hangs for good, as those of a dead process. */
  cut(): void
  /** Called before each transition is written. `'cut'`: the process dies before it, `'cut after'`: right after it. */
  before: (() => 'cut' | 'cut after' | undefined) | undefined
}

const forever = (): Promise<never> => new Promise(() => {})

export function line(store: SagaStore, effects: string[] = []): Line {
  let dead = false
  const calls = { create: 0, claim: 0, renew: 0, commit: 0, read: 0, deliver: 0, transaction: 0 }
  const counted =
    <A extends unknown[], T>(name: keyof typeof calls, call: (...args: A) => Promise<T>) =>
    async (...args: A): Promise<T> => {
      if (dead) return forever()
      calls[name]++
      const result = await call(...args)
      return dead ? forever() : result
    }
  const self: Line = {
    calls,
    transitions: 0,
    effects,
    before: undefined,
    cut: () => (dead = true),
    store: {
      create: counted('create', (s) => store.create(s)),
      claim: counted('claim', (r) => store.claim(r)),
      renew: counted('renew', (l, ms) => store.renew(l, ms)),
      commit: counted('commit', async (transitions) => {
        self.transitions += transitions.length
        const doom = self.before?.()
        if (doom === 'cut') dead = true
        if (doom) {
          if (doom === 'cut after') await store.commit(transitions)
          dead = true
          return forever()
        }
        return store.commit(transitions)
      }),
      read: counted('read', (id) => store.read(id)),
      deliver: counted('deliver', (m) => store.deliver(m)),
      move: async (m) => (dead ? forever() : store.move!(m)),
      list: (q) => store.list!(q),
      transaction: counted('transaction', async (work, record) => {
        const asked: string[] = []
        const tx: SagaTransaction = { query: async (text) => ({ rows: [asked.push(text)], rowCount: 1 }) }
        let doom: ReturnType<NonNullable<Line['before']>>
        const answer = await store.transaction!(
          () => work(tx),
          () => {
            const transition = dead ? undefined : record()
            if (transition) doom = self.before?.()
            if (doom) dead = true
            return doom === 'cut' ? undefined : transition
          },
        )
        if (answer === 'ok') effects.push(...asked)
        return answer
      }),
      onWake: (listener) => store.onWake!((wake) => dead || listener(wake)),
    },
  }
  return self
}

export interface Lab {
  readonly clock: ManualClock
  readonly store: MemorySagaStore
  /** What all committed transactions have done. */
  readonly effects: string[]
  /** An orchestrator of its own, with its own line to the shared store; started. */
  orchestrator(sagas: SagaDefinition[], options?: Partial<SagaOrchestratorOptions>): SagaOrchestrator & { line: Line }
}

export function lab(): Lab {
  const clock = new ManualClock()
  const store = new MemorySagaStore({ clock })
  const effects: string[] = []
  return {
    clock,
    store,
    effects,
    orchestrator(sagas, options = {}) {
      const own = line(store, effects)
      const made = new SagaOrchestrator({ store: own.store, sagas, clock, random: seededRandom(1), ...options })
      made.start()
      return Object.assign(made, { line: own })
    },
  }
}

/** Lets everything happen that needs no time. */
export const rest = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await settle()
}

/** A step that notes what happens to it. */
export const noted = (log: string[], name: string, run: () => unknown = () => name) => ({
  run: () => {
    log.push(name)
    return run()
  },
  compensate: ({ outcome }: { outcome: string }) => void log.push(`${name}: ${outcome}`),
})
