import { sleepOn, type Clock } from '../kernel/clock.js'
import type { EventBus } from '../messaging/event-bus.js'
import type { CompensateContext } from '../saga/body.js'
import type { SagaDefinition, SagaNode, StepNode } from '../saga/definition.js'
import type { SagaStore } from '../saga/store.js'
import { wordsOf } from './diary.js'
import type { SagaWorld } from './saga-world.js'

/** What never comes: the answer to a process that is dead. */
const forever = (): Promise<never> => new Promise(() => {})

/** One process of a simulated run: it has its own line to the store, its own timers and its own bodies, until it crashes. */
export class SimulatedProcess {
  #dead = false
  readonly #timers = new Set<() => void>()

  constructor(
    readonly number: number,
    private readonly world: SagaWorld<unknown>,
  ) {}

  /** Whether it has crashed. */
  get dead(): boolean {
    return this.#dead
  }

  /** From now on nothing it asks is answered, no timer of it fires, and it starts no body. */
  kill(): void {
    this.#dead = true
    for (const cancel of this.#timers) cancel()
    this.#timers.clear()
  }

  /** Passes a point of the run. @returns whether it is dead after that */
  #dies(when: 'before' | 'after', what: string, about?: string): boolean {
    if (!this.#dead && this.world.pass(this, `${when} ${what}`, about)) this.kill()
    return this.#dead
  }

  /** Timers of the process: those of one that is dead do nothing. */
  clock(): Clock {
    const { clock } = this.world
    const own: Clock = {
      now: () => clock.now(),
      epochMs: () => clock.epochMs(),
      setTimer: (fn, ms) => {
        if (this.#dead) return () => {}
        const stop = clock.setTimer(() => {
          this.#timers.delete(cancel)
          fn()
        }, ms)
        const cancel = (): void => {
          this.#timers.delete(cancel)
          stop()
        }
        this.#timers.add(cancel)
        return cancel
      },
      sleep: (ms, signal) => sleepOn(own, ms, signal),
    }
    return own
  }

  bus(): Pick<EventBus, 'publish'> {
    return {
      publish: async (messages) => {
        const all = [messages].flat()
        const what = `publish ${this.world.countPublish()}`
        const about = all.map(({ type }) => type).join(', ')
        if (this.#dies('before', what, about)) return forever()
        this.world.published.push(...all)
        this.world.note(this, 'publish', `${what}: ${about}`)
        if (this.#dies('after', what, about)) return forever()
      },
    }
  }

  store(): SagaStore {
    const { world } = this
    const { store } = world
    const plain =
      <A extends unknown[], T>(call: (...args: A) => Promise<T>) =>
      async (...args: A): Promise<T> => {
        const result = this.#dead ? await forever() : await call(...args)
        return this.#dead ? forever() : result
      }
    return {
      claim: plain((request) => store.claim(request)),
      renew: plain((leases, ms) => store.renew(leases, ms)),
      deliver: plain((message) => store.deliver(message)),
      read: plain((id) => store.read(id)),
      list: plain((query) => store.list(query)),
      create: plain(async (saga) => {
        if (this.#dies('before', 'create')) return forever()
        const created = await store.create(saga)
        if (created.created) world.note(this, 'write', 'create')
        this.#dies('after', 'create')
        return created
      }),
      commit: plain(async (transitions) => {
        const what = `write ${world.countWrite()}`
        const about = transitions.map(wordsOf).join('; ')
        if (this.#dies('before', what, about)) return forever()
        const answers = await store.commit(transitions)
        world.note(this, 'write', `${what}: ${about}${answers.includes('fenced') ? ' (refused: not the owner)' : ''}`)
        this.#dies('after', what, about)
        return answers
      }),
      transaction: plain((work, record) => this.#transaction(work, record)),
      onWake: (listener) => store.onWake((wake) => this.#dead || listener(wake)),
    }
  }

  readonly #transaction: NonNullable<SagaStore['transaction']> = async (work, record) => {
    const { world } = this
    const own = world.beginTransaction()
    let what = ''
    let about = ''
    try {
      const answer = await world.store.transaction(
        (none) => work(own ?? none),
        () => {
          const transition = this.#dead ? undefined : record()
          if (!transition) return undefined
          what = `write ${world.countWrite()}`
          about = wordsOf(transition)
          return this.#dies('before', what, about) ? undefined : transition
        },
      )
      await (answer === 'ok' ? own?.commit() : own?.rollback())
      if (answer === 'ok') {
        world.note(this, 'write', `${what}, with its transaction: ${about}`)
        this.#dies('after', what, about)
      }
      return answer
    } catch (error) {
      await own?.rollback()
      throw error
    }
  }

  /** The same saga with bodies that tell when they start and end, and that fail as planned. */
  definition(definition: SagaDefinition): SagaDefinition {
    const wrap = (node: SagaNode): SagaNode => {
      if (node.kind === 'parallel')
        return { ...node, branches: node.branches.map((b) => ({ ...b, nodes: b.nodes.map(wrap) })) }
      return 'run' in node ? this.#step(node) : node
    }
    return { ...definition, nodes: definition.nodes.map(wrap) }
  }

  #step(node: StepNode): StepNode {
    const { run, compensate, uncertain } = node
    return {
      ...node,
      run: (context) => this.#body('run', node, context.attempt, () => run(context)),
      compensate:
        compensate &&
        ((context: CompensateContext<unknown, unknown, unknown>) =>
          this.#body('compensate', node, context.attempt, () => compensate(context))),
      uncertain: (error) => (error instanceof PlannedError ? error.unsure : uncertain(error)),
    }
  }

  async #body(verb: 'run' | 'compensate', { path }: StepNode, attempt: number, call: () => unknown): Promise<unknown> {
    const { world } = this
    const what = `${verb} ${path}`
    if (this.#dies('before', what)) return forever()
    const tell = (text: string): void =>
      world.note(this, 'body', `${what}${attempt > 1 ? ` (attempt ${attempt})` : ''}${text}`)
    const plan = world.failureOf(verb, path)
    let result: unknown
    let failed: { readonly error: unknown } | undefined
    try {
      if (plan === 'fails') throw new PlannedError(`${what} fails, as planned`, false)
      tell('')
      result = await call()
      if (plan === 'unsure') throw new PlannedError(`the answer to ${what} is lost, as planned`, true)
    } catch (error) {
      failed = { error }
      tell(`: ${error instanceof Error ? error.message : 'threw no error'}`)
    }
    const wasDead = this.#dead
    if (wasDead) tell(': went on to its end, though its process is dead')
    if (this.#dies('after', what)) return forever()
    if (failed) throw failed.error
    return result
  }
}

/** What a body throws because the plan says so. */
class PlannedError extends Error {
  override readonly name = 'PlannedError'

  constructor(
    message: string,
    readonly unsure: boolean,
  ) {
    super(message)
  }
}
