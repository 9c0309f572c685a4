import type { Clock } from '../kernel/clock.js'
import { randomId, type Random } from '../kernel/random.js'
import type { RedisArg } from '../kernel/redis.js'
import type { RedisLink, WorkAnswer, WorkCall } from './redis-link.js'
import type { DeliveryRow } from './redis-rows.js'

/** Deliveries that one call hands out, and that one call brings back: more would hold up the server's other clients. */
const MOST_TAKEN = 256
const MOST_ENDED = 500
/** Waits between looks grow from this. */
const FIRST_WAIT_MS = 5
const LONGEST_RETRY_MS = 1_000

/** What a consumer works by. */
export interface ConsumerSettings {
  readonly clock: Clock
  readonly random: Random
  readonly leaseMs: number
  readonly pollMs: number
}

/** Whom a consumer works for. */
export interface Employer {
  /** How many more deliveries it has a place for. */
  readonly places: number
  /** Whether nobody takes part here and nothing is out. */
  readonly isEmpty: boolean
  /** What the group is to be, for `join`. */
  readonly meta: string
  deliver(rows: readonly DeliveryRow[]): void
  /** Nothing that is out is this consumer's any more. */
  lose(what: 'group' | 'lease'): void
  failed(error: unknown): void
}

/**
 * One consumer of a group, under one lease: brings back what has ended, renews and takes, all in one call, one call at a time. An idle one
 * looks again and again, with waits that grow; {@link stir} ends a wait.
 */
export class RedisConsumer {
  /** Another one after each loss of the lease, so that nobody takes old deliveries for new ones. */
  #id = randomId()
  #calls = 0
  #ended: (readonly RedisArg[])[] = []
  #told: (() => void)[] = []
  #waitMs = FIRST_WAIT_MS
  #beatAt = 0
  #dueMs = -1
  #joined = false
  #entering = 0
  #working: Promise<void> | undefined
  /** Something has happened that the call under way may not know of. */
  #stirred = false
  /** Nobody waits for the end any more. */
  #abandoned = false
  #cancelTimer: (() => void) | undefined
  #endWait: (() => void) | undefined

  constructor(
    private readonly link: RedisLink,
    private readonly employer: Employer,
    private readonly settings: ConsumerSettings,
  ) {}

  /** Its name in Redis. */
  get id(): string {
    return this.#id
  }

  /** Goes in, or makes the group again if it is in. @throws InvalidOptionError, StoreError as {@link RedisLink.join}. */
  async enter(): Promise<void> {
    this.#entering++ // so that it does not leave meanwhile
    try {
      if (this.employer.isEmpty) await this.#working // it may be leaving
      await this.#join()
    } finally {
      this.#entering--
    }
  }

  /** Brings back a delivery: the seven words of the script. */
  end(words: readonly RedisArg[]): void {
    this.#ended.push(words)
    this.stir()
  }

  /**
   * Resolves when Redis knows all that has ended so far, and that nobody is here if so. Waits no longer than the lease: after that
   * others take what is here in any case.
   */
  async told(): Promise<void> {
    if (!this.#joined) return
    this.#endWait?.()
    await new Promise<void>((resolve) => {
      const cancel = this.settings.clock.setTimer(
        () => {
          this.#abandoned = true
          resolve()
        },
        this.settings.leaseMs,
        { keepAlive: true },
      )
      this.#told.push(() => {
        cancel()
        resolve()
      })
      this.stir()
    })
  }

  /** There may be something to do. */
  stir(): void {
    this.#stirred = true
    if (this.#working || !this.#joined) return
    this.#cancelTimer?.()
    this.#working = this.#work().finally(() => {
      this.#working = undefined
      this.#rest()
    })
  }

  async #join(): Promise<void> {
    await this.link.join(this.employer.meta, this.#id, this.settings.leaseMs)
    this.#joined = true
    this.#abandoned = false
    this.#waitMs = FIRST_WAIT_MS
    this.#renewed()
  }

  /** Calls count from 1 under each name: by that the server tells that it has forgotten some. */
  #nameAnew(): void {
    this.#id = randomId()
    this.#calls = 0
  }

  #renewed(): void {
    this.#beatAt = this.settings.clock.now() + this.settings.leaseMs / 3
  }

  async #work(): Promise<void> {
    // oxlint-disable no-await-in-loop -- one call after the other: each brings what has come to pass meanwhile
    while (this.#joined) {
      await new Promise((resolve) => setImmediate(resolve)) // what ends in this turn goes together
      this.#stirred = false
      const { want, ...call } = this.#nextCall()
      const told = this.#ended.length === 0 ? this.#told.splice(0) : []
      const answer = await this.#send({ want, ...call })
      if (answer?.kind === 'ok') {
        this.#renewed()
        this.#dueMs = answer.nextDueMs
        if (answer.rows.length > 0) this.#waitMs = FIRST_WAIT_MS
        this.employer.deliver(answer.rows)
      } else if (!call.leave && (answer?.kind === 'gone' || answer?.kind === 'lost')) {
        await this.#startAnew(answer.kind === 'gone' ? 'group' : 'lease')
      } else {
        this.#joined = false // has left (a leave that was sent again finds nobody), or can't say so
        this.#nameAnew()
        if (!this.employer.isEmpty) await this.#startAnew('lease')
      }
      for (const tell of told) tell()
      const more = answer?.kind === 'ok' && want > 0 && answer.rows.length === want && this.employer.places > 0
      if (!more && !this.#stirred) return
    }
    // oxlint-enable no-await-in-loop
  }

  #nextCall(): WorkCall {
    const ended = this.#ended.splice(0, MOST_ENDED)
    if (this.#ended.length > 0) this.#stirred = true
    const leave = this.employer.isEmpty && this.#ended.length === 0 && this.#entering === 0
    const want = leave ? 0 : Math.min(MOST_TAKEN, this.employer.places)
    const { leaseMs } = this.settings
    return { number: ++this.#calls, consumer: this.#id, leaseMs, want, leave, ended: ended.flat() }
  }

  /** Sends the same call until it is answered; `undefined` when nobody is here who would care. */
  async #send(call: WorkCall): Promise<WorkAnswer | undefined> {
    for (let failures = 0; ; failures++) {
      try {
        return await this.link.work(call) // oxlint-disable-line no-await-in-loop
      } catch (error) {
        this.employer.failed(error)
        if (this.#abandoned && this.employer.isEmpty) return undefined
        await this.#wait(failures) // oxlint-disable-line no-await-in-loop
      }
    }
  }

  /** Back in as another consumer: what was here is others'. */
  async #startAnew(what: 'group' | 'lease'): Promise<void> {
    this.#ended = []
    this.#nameAnew()
    this.#joined = false
    this.employer.lose(what)
    for (let failures = 0; !this.employer.isEmpty && !this.#joined; failures++) {
      try {
        await this.#join() // oxlint-disable-line no-await-in-loop
      } catch (error) {
        this.employer.failed(error)
        await this.#wait(failures) // oxlint-disable-line no-await-in-loop
      }
    }
    this.#stirred = true
  }

  /** Before something is tried again; no longer when somebody closes. */
  async #wait(failures: number): Promise<void> {
    const ms = Math.min(LONGEST_RETRY_MS, 20 * 2 ** Math.min(failures, 10)) * (0.5 + this.settings.random() / 2)
    await new Promise<void>((resolve) => {
      const cancel = this.settings.clock.setTimer(resolve, ms)
      this.#endWait = () => {
        cancel()
        resolve()
      }
    })
    this.#endWait = undefined
  }

  /** Until the next look: when something is due, when the lease wants renewal, or when news may have been missed. */
  #rest(): void {
    if (!this.#joined) {
      for (const tell of this.#told.splice(0)) tell()
      return
    }
    if (this.#stirred) return this.stir()
    const { clock, pollMs } = this.settings
    let waitMs = Math.max(0, this.#beatAt - clock.now())
    if (this.#dueMs >= 0) waitMs = Math.min(waitMs, this.#dueMs)
    if (this.employer.places > 0) {
      waitMs = Math.min(waitMs, this.#waitMs)
      this.#waitMs = Math.min(pollMs, this.#waitMs * 2)
    }
    this.#cancelTimer = clock.setTimer(() => this.stir(), waitMs)
  }
}
