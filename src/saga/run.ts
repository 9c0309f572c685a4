import { aborted, lost } from './aborted.js'
import type { SagaTransaction } from './body.js'
import type { BodyScope } from './body-call.js'
import { BodyRun } from './body-run.js'
import type { SagaNode, StepNode } from './definition.js'
import type { NodeState, SagaState, SagaStatus } from './journal.js'
import { isToRun, mayTurn, type SagaInput, type SagaMachine } from './machine.js'
import { AGAIN, publishStored } from './publish.js'
import type { RunHost } from './run-host.js'
import type { InboxMessage, Transition } from './store.js'
import type { Taken } from './taken.js'

/** A saga while this process owns it. */
export class SagaRun {
  readonly id: string
  readonly epoch: number
  readonly state: SagaState
  leaseUntil: number
  readonly #scope: BodyScope
  readonly #clockOffset: number
  readonly #bodies = new Map<string, BodyRun>()
  readonly #report = (input: SagaInput): void => {
    this.#inputs.push(input)
    this.proceed()
  }
  #inputs: SagaInput[] = []
  #inbox: InboxMessage[]
  #seen: number
  #position: number
  /** The status that the store has. */
  #stored: SagaStatus
  #busy = false
  #again = false
  #over = false
  /** What is being written. */
  #writing: Transition | undefined
  #closing = false
  #publishing = false
  #reading = false
  #readAgain = false
  #woken = false
  #timerAt = Infinity
  #cancelTimer: (() => void) | undefined
  /** What can be told to the transaction that is under way; nothing else is written meanwhile, for each record has its place. */
  #transaction: { stop?(reason: Error): void; giveUp?(reason: Error): void } | undefined

  constructor(
    readonly machine: SagaMachine,
    visible: ReadonlyMap<string, readonly SagaNode[]>,
    private readonly host: RunHost,
    { saga, expired, leaseUntil, clockOffset }: Taken,
  ) {
    this.id = saga.id
    this.epoch = saga.epoch
    this.state = machine.load(saga)
    this.leaseUntil = leaseUntil
    this.#scope = {
      sagaId: saga.id,
      createdAt: saga.createdAt,
      input: saga.input,
      state: this.state,
      fence: saga.epoch,
      visible,
      clock: host.clock,
      hasBus: host.bus !== undefined,
      graceMs: host.graceMs,
    }
    this.#clockOffset = clockOffset
    this.#inbox = [...saga.inbox]
    this.#seen = saga.lastMessage
    this.#position = saga.journal.length
    this.#stored = saga.status
    if (expired) this.#inputs.push({ type: 'interrupted' })
  }

  /** The newest message it knows of. */
  get seen(): number {
    return this.#seen
  }

  /** Whether a message came while it was owned: when it is let go, that may be a message it had not seen. */
  get woken(): boolean {
    return this.#woken
  }

  /** Looks at the time, the inbox and what its bodies reported, and goes on. */
  proceed(): void {
    this.#again = true
    if (this.#busy || this.#over) return
    if (this.#transaction) return this.#hurry()
    this.#proceed()
  }

  /** Fetches messages that came since it was claimed. */
  async readInbox(): Promise<void> {
    this.#woken = true
    if (this.#over) return
    if (this.#reading) {
      this.#readAgain = true
      return
    }
    this.#reading = true
    try {
      this.#readAgain = false
      const saga = await this.host.store.read(this.id)
      if (saga && saga.epoch === this.epoch) {
        const known = saga.inbox.findLastIndex((m) => m.number <= this.#seen) // looked for from the end: many may wait
        const fresh = saga.inbox.slice(known + 1)
        for (const message of fresh) this.#inbox.push(message)
        this.#seen = Math.max(this.#seen, saga.lastMessage)
        // a wait that begins later finds its signal by itself: a flood of them must not cost a decision each
        if (this.machine.waitsForSignal(this.state) || fresh.some((m) => m.kind !== 'signal')) this.proceed()
      } else this.fenced()
    } catch (error) {
      this.host.failed('read', error) // the next renewal tells of the message again
    } finally {
      this.#reading = false
      if (this.#readAgain) void this.readInbox()
    }
  }

  /** Starts nothing more, and lets the saga go as soon as its bodies have ended; at the latest after `graceMs`. */
  close(): void {
    if (this.#over || this.#closing) return
    this.#closing = true
    const cancel = this.#cancelTimer
    this.#cancelTimer = this.host.clock.setTimer(() => this.lose(), this.host.graceMs, { keepAlive: true })
    cancel?.()
    this.proceed()
  }

  /** The store says that it is not owned here. Not so when a write is under way: it may have let the saga go, and its answer tells. */
  fenced(): void {
    if (!this.#writing) this.lose()
  }

  /** The store has given the saga out anew, to this process. What is being written has counted if it let the saga go and stands in the journal. */
  replaced({ saga }: Taken): void {
    const letGo = this.#writing && 'dueAt' in this.#writing.next ? this.#writing : undefined
    // epochs do not tell: after a fail-over of the store somebody else may have had the same one
    if (letGo && JSON.stringify(saga.journal[letGo.position]) === JSON.stringify(letGo.record)) this.#recorded(letGo)
    else this.lose()
  }

  /** Somebody else owns the saga, or will: bodies are told to stop, and nothing more is written. */
  lose(): void {
    if (this.#over) return
    this.#end()
    const reason = lost(this.id)
    for (const body of this.#bodies.values()) body.forget(reason)
    this.#transaction?.giveUp?.(reason)
    this.host.dropped(this, true)
  }

  /** @param written what was written just now */
  #proceed(written?: Transition): void {
    this.#busy = true
    try {
      if (written) this.#recorded(written)
      if (written) this.#goOn()
      while (this.#again && !this.#over && !this.#transaction) {
        const now = this.host.clock.now()
        const transition = this.#decide(this.#storeTime(now))
        if (transition) return this.#write(transition, now)
        this.#goOn()
      }
      this.#busy = false
      this.#arm()
    } catch (error) {
      this.host.failed('run', error)
      this.lose()
    }
  }

  /** Does what the state asks for. */
  #goOn(): void {
    if (this.#over) return
    this.#stopBodies()
    this.#startBodies()
    this.#publish()
  }

  /** What follows from all that is known now, as it is to be written; `undefined`: nothing. */
  #decide(now: number): Transition | undefined {
    this.#again = false
    const { entries, consumed } = this.machine.decide(this.state, this.#takeInputs(), {
      now,
      live: this.#bodies,
      inbox: this.#inbox,
      random: this.host.random,
    })
    if (consumed.length > 0) this.#inbox = this.#inbox.filter((m) => !consumed.includes(m.number))
    const next = this.#next(now)
    const { status } = this.state
    if (entries.length === 0 && 'leaseMs' in next && status === this.#stored) return undefined
    const record = { at: now, entries }
    const { id, epoch } = this
    return { id, epoch, position: this.#position, record, status, consumed, seen: this.#seen, next }
  }

  /** The transition counts. */
  #recorded({ record, status, next }: Transition): void {
    const letGo = 'dueAt' in next
    this.#position++
    if (letGo) this.#end()
    const statusChanged = status !== this.#stored
    this.#stored = status
    this.host.recorded(this, record.entries, statusChanged)
    if (letGo) this.host.dropped(this, false)
  }

  #takeInputs(): SagaInput[] {
    const inputs = this.#inputs
    this.#inputs = []
    // until now they counted as running: what is not decided yet must not be started again
    for (const input of inputs) if ('path' in input) this.#bodies.delete(input.path)
    return inputs
  }

  /** Whether to keep the saga after the next write, and if not, when it is due. */
  #next(now: number): Transition['next'] {
    const { state, machine } = this
    const keep = { leaseMs: this.host.leaseMs }
    if (this.#bodies.size > 0 || state.outbox.length > 0) return keep
    const dueAt = machine.dueAt(state, { live: this.#bodies })
    const waitMs = dueAt - now
    // a short pause is cheaper to sit out; a signal may come to any process
    const sitOut = waitMs <= this.host.leaseMs && !(state.status === 'waiting' && machine.waitsForSignal(state))
    const runs = state.status === 'running' || state.status === 'compensating'
    if (!this.#closing && (sitOut || (runs && waitMs <= 0))) return keep
    return { dueAt: dueAt === Infinity ? null : dueAt }
  }

  #write(transition: Transition, sentAt: number, tries: number = 1): void {
    this.#writing = transition
    this.host.writes.add(transition).then(
      (answer) => {
        this.#writing = undefined
        if (answer !== 'ok' || this.#over) return this.lose() // of what the store says nothing must not count
        this.#keptFrom(sentAt)
        this.#proceed(transition)
      },
      (error) => this.#writeFailed(transition, error, tries),
    )
  }

  async #writeFailed(transition: Transition, error: unknown, tries: number): Promise<void> {
    if (!(await this.#mayTryAgain(tries, error))) return this.lose()
    this.#write(transition, this.host.clock.now(), tries + 1) // known by its position: again does no harm
  }

  /** The store extended the lease, at the earliest at `sentAt`. */
  #keptFrom(sentAt: number): void {
    this.leaseUntil = Math.max(this.leaseUntil, sentAt + this.host.leaseMs)
  }

  /** Waits after a write that failed. @returns whether the saga is still owned then */
  async #mayTryAgain(tries: number, error: unknown): Promise<boolean> {
    const { clock, random } = this.host
    this.host.failed('commit', error)
    const waitMs = AGAIN(tries, error, { previousMs: undefined, random })
    if (clock.now() + waitMs >= this.leaseUntil) return false
    await clock.sleep(waitMs)
    return !this.#over
  }

  #stopBodies(): void {
    const { failure, direction } = this.state
    if (direction !== 'back') return
    for (const body of this.#bodies.values())
      if (!body.compensating) body.stop(aborted(`saga '${this.id}' turned back: ${failure?.error.message}`))
  }

  #startBodies(): void {
    if (this.#closing) return
    let now = this.host.clock.now()
    for (const [path, at] of this.state.nodes) {
      if (!isToRun(this.state, at, this.#storeTime(now)) || this.#bodies.has(path)) continue
      if (now >= this.leaseUntil) return this.lose()
      const node = this.machine.nodes.get(path) as StepNode
      if (node.kind !== 'transaction') this.#startBody(node, at, this.#report)
      else if (!this.#transaction) void this.#transact(node, at) // one after the other
      now = this.host.clock.now() // its first part may have taken long
    }
  }

  #startBody(node: StepNode, at: NodeState, report: (input: SagaInput) => void, tx?: SagaTransaction): void {
    const body = new BodyRun(node, at.status === 'compensating', this.#scope, report, at)
    this.#bodies.set(node.path, body)
    body.start(tx)
  }

  /** Runs a body and writes how it ended in one transaction. */
  async #transact(node: StepNode, at: NodeState, tries: number = 1): Promise<void> {
    const { store, clock } = this.host
    const { path } = node
    this.#transaction = {}
    let end: SagaInput | undefined
    let transition: Transition | undefined
    const work = async (tx: SagaTransaction): Promise<void> => {
      end = await new Promise<SagaInput>((resolve, giveUp) => {
        if (this.#over) return giveUp(lost(this.id))
        this.#startBody(node, at, resolve, tx)
        this.#transaction = { giveUp, stop: (reason) => this.#bodies.get(path)?.stop(reason) }
        this.#hurry() // something may have come while it waited for a connection
      })
      if (end.type === 'failed') throw end.error // rolls back
    }
    const record = (): Transition | undefined => {
      if (this.#over || !end) return undefined
      this.#inputs.push(end)
      transition = this.#decide(this.#storeTime(clock.now()))
      this.#writing = transition
      return transition
    }
    const sentAt = clock.now()
    try {
      // the orchestrator has seen to it that there are transactions
      if ((await store.transaction!(work, record)) === 'fenced' || this.#over) return this.lose()
      this.#keptFrom(sentAt)
    } catch (error) {
      if (this.#over) return
      if (!end) {
        if (await this.#mayTryAgain(tries, error)) return this.#transact(node, at, tries + 1)
        return this.lose()
      }
      if (transition) {
        this.host.failed('commit', error)
        return this.lose() // nobody knows whether it is written: the next owner will
      }
      this.#inputs.push(end.type === 'failed' ? end : { type: 'failed', path, error, maybe: false, final: false })
      this.#again = true
    }
    this.#writing = undefined
    this.#transaction = undefined
    this.#proceed(transition)
  }

  /** A transaction is under way: what has happened waits for its end, which can't wait if the saga is to turn back. */
  #hurry(): void {
    if (!mayTurn(this.state)) return
    const isLate = this.state.deadlineAt <= this.#storeTime(this.host.clock.now())
    if (!isLate && !this.#inbox.some((message) => message.kind === 'cancel')) return
    this.#transaction?.stop?.(
      aborted(`saga '${this.id}' ${isLate ? 'did not end before its deadline' : 'is cancelled'}`),
    )
  }

  #publish(): void {
    if (this.#publishing || this.state.outbox.length === 0) return
    this.#publishing = true
    const events = [...this.state.outbox]
    void publishStored(this.host, this.id, events, () => this.#over).then((published) => {
      this.#publishing = false
      if (published) this.#inputs.push({ type: 'published', count: events.length })
      // while a body runs, the next write is near and takes it along
      if (this.#bodies.size === 0) this.proceed()
    })
  }

  #arm(): void {
    if (this.#over || this.#closing) return
    const { state, machine } = this
    let dueAt = machine.dueAt(state, { live: this.#bodies })
    if (this.#transaction) dueAt = mayTurn(state) ? state.deadlineAt : Infinity
    if (dueAt === this.#timerAt) return
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    this.#timerAt = dueAt
    if (dueAt === Infinity) return
    const fire = (): void => {
      this.#timerAt = Infinity
      this.proceed()
    }
    const { clock } = this.host
    const waitMs = Math.max(0, dueAt - this.#storeTime(clock.now()))
    this.#cancelTimer = clock.setTimer(fire, waitMs, { keepAlive: true })
  }

  #end(): void {
    this.#over = true
    this.#cancelTimer?.()
  }

  /** Epoch milliseconds by the store's clock. @param now of this process's clock */
  #storeTime(now: number): number {
    return Math.floor(now + this.#clockOffset)
  }
}
