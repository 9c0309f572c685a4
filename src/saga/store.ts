import type { Unsubscribe } from '../kernel/emitter.js'
import type { SagaTransaction } from './body.js'
import type { JournalEntry, JournalRecord, SagaStatus } from './journal.js'

/** Whether a write counted: `'fenced'` means that somebody else owns the saga now, and nothing was written. */
export type Fenced = 'ok' | 'fenced'

/** A definition as stores know it. */
export interface DefinitionKey {
  /** Not empty. */
  readonly name: string
  /** Integer ≥ 1. */
  readonly version: number
  /** Of the structure: 16 hexadecimal digits. */
  readonly hash: string
}

/** A saga to be. */
export interface NewSaga extends DefinitionKey {
  /** Any string that is not empty. */
  readonly id: string
  /** Text of the codec: JSON, on one line. */
  readonly input: string
  /** Milliseconds; `null`: none. */
  readonly deadlineMs: number | null
  /** Milliseconds for which its maker owns it at once, with epoch 1; `null`: nobody does, and it is due at once. */
  readonly leaseMs: number | null
}

/** A saga as it is stored. All times are epoch milliseconds by the store's clock. */
export interface StoredSaga extends DefinitionKey {
  /** As it was created. */
  readonly id: string
  /** Text of the codec, as it was created. */
  readonly input: string
  /** Milliseconds, as it was created; `null`: none. */
  readonly deadlineMs: number | null
  /** As the last write gave it; `running` before any. */
  readonly status: SagaStatus
  /** Never changes. */
  readonly createdAt: number
  /** When the last transition was written; `createdAt` before any. */
  readonly updatedAt: number
  /** How often it has been claimed: the number of its present or last owner. */
  readonly epoch: number
  /** One record per transition, in their order. */
  readonly journal: readonly JournalRecord[]
  /** Messages not consumed yet, in the order they came. */
  readonly inbox: readonly InboxMessage[]
  /** The number of the newest message it ever got; 0: none. */
  readonly lastMessage: number
}

/** What {@link SagaStore.create} did. */
export interface Created {
  /** `false`: a saga of this id was there and was left as it was. */
  readonly created: boolean
  /** The one of this id, new or old. */
  readonly saga: StoredSaga
  /** The store's clock, epoch milliseconds. */
  readonly now: number
}

/** What an orchestrator can run, and how much. */
export interface ClaimRequest {
  /** Only sagas of these are given out. */
  readonly known: readonly DefinitionKey[]
  /** Integer ≥ 1. */
  readonly limit: number
  /** Milliseconds from now for which they are owned. > 0. */
  readonly leaseMs: number
}

/** A saga that is the caller's now. */
export interface ClaimedSaga {
  /** As it is now, with its new epoch. */
  readonly saga: StoredSaga
  /** Its last owner let its lease run out: the bodies it had started may have run. */
  readonly expired: boolean
}

/** What {@link SagaStore.claim} found. */
export interface Claims {
  /** Longest due first; at most `limit`. */
  readonly claimed: readonly ClaimedSaga[]
  /** Errors, of sagas that were taken and can't be read: their leases run out. They hold up no others. @defaultValue none */
  readonly unreadable?: readonly unknown[] | undefined
  /** Due sagas whose name and version are known with another hash: untouched. May be cut to a few. */
  readonly drifted: readonly { readonly id: string; readonly name: string; readonly version: number }[]
  /** The store's clock, epoch milliseconds. */
  readonly now: number
  /** Milliseconds until the next saga may fall due or lose its owner, if nothing else happens; `Infinity`: none will. */
  readonly nextDueMs: number
}

/** A saga and the epoch under which the caller owns it. */
export interface Lease {
  /** The saga. */
  readonly id: string
  /** Integer ≥ 1, as the claim gave it. */
  readonly epoch: number
}

/** What became of a lease. */
export type Renewed = 'fenced' | { readonly lastMessage: number }

/** One write. */
export interface Transition extends Lease {
  /** How many records the journal has before this one. */
  readonly position: number
  /** What the journal gets. */
  readonly record: JournalRecord
  /** Where the saga stands after it. */
  readonly status: SagaStatus
  /** Numbers of inbox messages that it consumes. */
  readonly consumed: readonly number[]
  /** The newest message its owner had seen. */
  readonly seen: number
  /** Keep it for so many milliseconds from now, or let it go until `dueAt` (epoch milliseconds; `null`: until a message comes). */
  readonly next: { readonly leaseMs: number } | { readonly dueAt: number | null }
}

/** A saga that is to go on under another definition, as its mover has read it. */
export interface SagaMove extends Lease {
  /** Of the saga that is meant, and not of a later one with this id. */
  readonly createdAt: number
  /** How many records its journal has. */
  readonly position: number
  /** Its name is the saga's. */
  readonly to: DefinitionKey
  /** What the journal gets, as one record with the time of the store. */
  readonly entries: readonly JournalEntry[]
  /** Whether its last owner must have let it go, so that no body that is not recorded can have run. */
  readonly letGo: boolean
}

/**
 * What {@link SagaStore.move} did: only `'ok'` wrote anything. `'owned'`: somebody runs it; `'expired'`: its last owner vanished, which
 * `letGo` does not allow; `'fenced'`: it is gone, or has gone on since it was read.
 */
export type Moved = 'ok' | 'owned' | 'expired' | 'fenced'

/** What is sent to a saga from outside. */
export interface NewMessage {
  /** Whom it is for. */
  readonly sagaId: string
  /** A signal, or an order of whoever may give one. */
  readonly kind: 'signal' | 'cancel' | 'retry' | 'skip' | 'resolve' | 'redrive'
  /** Signal: its name. Operator verbs: the path they are about, or empty. */
  readonly name: string
  /** Text of the codec. */
  readonly payload: string
  /** A second message of this saga with the same one is dropped. */
  readonly dedupeId?: string | undefined
}

/** A message in a saga's inbox. */
export interface InboxMessage extends Omit<NewMessage, 'sagaId' | 'dedupeId'> {
  /** Grows with each message of the saga. Integer ≥ 1. */
  readonly number: number
}

/** `'finished'`: completed or compensated, so that nobody will read it; only `redrive` is still taken by a compensated one. */
export type Delivered = 'delivered' | 'duplicate' | 'finished' | 'unknown'

/** What {@link SagaStore.list} looks for. */
export interface SagaQuery {
  /** Only those that stand there. @defaultValue all */
  readonly status?: SagaStatus | undefined
  /** Only those of definitions of this name. @defaultValue all */
  readonly name?: string | undefined
  /** Only those that have not ended and got no write for so many milliseconds. ≥ 0. */
  readonly stuckForMs?: number | undefined
  /** The id after which to go on. */
  readonly after?: string | undefined
  /** Integer ≥ 1. */
  readonly limit: number
}

/** One line of a list. Times are epoch milliseconds by the store's clock. */
export interface SagaSummary {
  /** As it was created. */
  readonly id: string
  /** Of its definition. */
  readonly name: string
  /** Of its definition. */
  readonly version: number
  /** Where it stands. */
  readonly status: SagaStatus
  /** Never changes. */
  readonly createdAt: number
  /** When its last transition was written. */
  readonly updatedAt: number
}

/** Something to look at. */
export interface SagaWake {
  /** The saga; `undefined`: whichever, for the store may have missed something. */
  readonly id: string | undefined
  /** Milliseconds until it is due; 0: now; `Infinity`: it ended. */
  readonly dueInMs: number
}

/**
 * Where sagas live. A saga is owned by whoever claimed it last: each claim raises its epoch, and writes under an older one
 * change nothing. A saga is due when its time has come and nobody owns it, or when the lease of its owner has run out.
 * All times are taken from the store's own clock. Every method throws StoreError when the store does not answer: the call
 * may or may not have taken effect. Contract: `test/conformance/saga-store.ts`.
 */
export interface SagaStore {
  /** Stores a saga unless there is one of this id: of callers at the same time exactly one creates it. */
  create(saga: NewSaga): Promise<Created>
  /** Takes up to `limit` due sagas of known definitions, longest due first. No two callers get the same one under one epoch. */
  claim(request: ClaimRequest): Promise<Claims>
  /** Owns sagas for `leaseMs` milliseconds from now. Answers in the order of `leases`. */
  renew(leases: readonly Lease[], leaseMs: number): Promise<readonly Renewed[]>
  /**
   * Writes transitions, each wholly or not at all, each on its own. Answers in their order. One that was written before
   * (same epoch, position and record) is `'ok'` and changes nothing, so that a call whose answer was lost may be made again. Another record for
   * a position that is taken is `'fenced'`, also under one epoch, which a database that has forgotten a claim can give out twice.
   * A saga that is let go while its inbox has a message above `seen` is due at once.
   */
  commit(transitions: readonly Transition[]): Promise<readonly Fenced[]>
  /**
   * Runs `work` in a transaction of the store's own database, and writes what `record` then gives in the same one: both or
   * neither. What `tx` was asked to do must have no effect any more once `work` has rejected. `record` is called last, when nothing
   * but the write and the commit are left, and gives nothing when its caller has given up.
   * @returns `'fenced'`: rolled back, because somebody else owns the saga, or `record` gave nothing
   * @throws what `work` threw: rolled back. StoreError: rolled back when `record` was not called; else nobody knows, and only its next
   * owner can tell: a saga is not given out while such a commit is under way.
   */
  transaction?(work: (tx: SagaTransaction) => Promise<void>, record: () => Transition | undefined): Promise<Fenced>
  /**
   * Gives a saga that nobody owns another version and structure, and writes why, both or neither; it is due at once, for those who know the new ones.
   * Its epoch grows, so that whoever had it before writes nothing more; of one whose lease has run out the next claim still says so.
   * The same entries at the same position again are `'ok'` and change nothing. A store without it keeps sagas under the definition they began with.
   */
  move?(move: SagaMove): Promise<Moved>
  /** Puts a message into a saga's inbox, behind those that are there. A saga that nobody owns is due at once. */
  deliver(message: NewMessage): Promise<Delivered>
  /** One saga with all that is known of it; `undefined` when there is none. */
  read(id: string): Promise<StoredSaga | undefined>
  /**
   * Sagas in an order of their ids that is the same at each call: that of their characters' codes, but for ids that are long or have odd
   * characters. Of a store without it there is no list.
   */
  list?(query: SagaQuery): Promise<readonly SagaSummary[]>
  /**
   * Calls `listener` soon after a saga was created, got a message, was let go or ended, whoever did it. A store without it is
   * asked from time to time instead.
   */
  onWake?(listener: (wake: SagaWake) => void): Unsubscribe
}
