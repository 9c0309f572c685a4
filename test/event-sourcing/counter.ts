import { Aggregate, type Decider, type Event } from '../../src/event-sourcing/index.js'

export type CounterEvent =
  | Event<'Opened', { readonly limit: number }>
  | Event<'Added', { readonly n: number }>
  | Event<'Closed', null>

/** Once opened, counts up to a limit, until it is closed. As a class. */
export class Counter extends Aggregate<CounterEvent> {
  limit = 0
  total = 0
  #status: 'new' | 'open' | 'closed' = 'new'

  get status(): string {
    return this.#status
  }

  open(limit: number): void {
    if (this.#status !== 'new') throw new Error('is open already')
    this.raise({ type: 'Opened', data: { limit } })
  }

  add(n: number): void {
    if (this.#status !== 'open') throw new Error(`is ${this.#status}`)
    if (this.total + n > this.limit) throw new Error('over the limit')
    this.raise({ type: 'Added', data: { n } })
  }

  close(): void {
    if (this.#status === 'open') this.raise({ type: 'Closed', data: null })
  }

  protected apply(event: CounterEvent): void {
    switch (event.type) {
      case 'Opened':
        this.#status = 'open'
        this.limit = event.data.limit
        break
      case 'Added':
        this.total += event.data.n
        break
      case 'Closed':
        this.#status = 'closed'
    }
  }
}

export type CounterCommand = { kind: 'open'; limit: number } | { kind: 'add'; n: number } | { kind: 'close' }
export interface CounterState {
  readonly status: 'new' | 'open' | 'closed'
  readonly limit: number
  readonly total: number
}

/** The same as three functions. */
export const counter: Decider<CounterCommand, CounterEvent, CounterState> = {
  initial: () => ({ status: 'new', limit: 0, total: 0 }),
  decide(command, state) {
    switch (command.kind) {
      case 'open':
        if (state.status !== 'new') throw new Error('is open already')
        return { type: 'Opened', data: { limit: command.limit } }
      case 'add':
        if (state.status !== 'open') throw new Error(`is ${state.status}`)
        if (state.total + command.n > state.limit) throw new Error('over the limit')
        return [{ type: 'Added', data: { n: command.n } }]
      case 'close':
        return state.status === 'open' ? [{ type: 'Closed', data: null }] : []
    }
  },
  evolve(state, event) {
    switch (event.type) {
      case 'Opened':
        return { ...state, status: 'open', limit: event.data.limit }
      case 'Added':
        return { ...state, total: state.total + event.data.n }
      case 'Closed':
        return { ...state, status: 'closed' }
    }
  },
}
