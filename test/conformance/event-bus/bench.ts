import { expect } from 'vitest'
import type { EventBus, Message, OutgoingMessage, SubscribeOptions } from '../../../src/messaging/index.js'

/** `advance` lets `ms` pass: moves a fake clock, or really waits where the bus has its own. */
export interface Harness {
  bus: EventBus
  advance(ms: number): Promise<void>
  close(): Promise<void>
}

/** The options that a run of the contract sets on every subscription that does not care. */
export type Defaults = Pick<SubscribeOptions, 'concurrency' | 'order' | 'retry'>

/** States one law of the contract. */
export type Law = (name: string, check: (t: Bench) => Promise<void>) => void

/** A bus under test, and short words for what the laws do with it. */
export class Bench {
  readonly bus: EventBus

  constructor(
    private readonly harness: Harness,
    private readonly defaults: Defaults,
  ) {
    this.bus = harness.bus
  }

  advance(ms: number): Promise<void> {
    return this.harness.advance(ms)
  }

  /** Lets time pass until `condition` holds. */
  async until(condition: () => boolean | Promise<boolean>): Promise<void> {
    for (let i = 0; i < 400; i++) {
      if (await condition()) return
      await this.harness.advance(5)
    }
    expect.fail('what was waited for did not happen')
  }

  /** A few turns of the event loop, for handlers that take some time. */
  async pause(turns: number): Promise<void> {
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
  }

  subscribe(
    group: string,
    types: SubscribeOptions['types'],
    handle: SubscribeOptions['handle'],
    options: Partial<SubscribeOptions> = {},
  ): ReturnType<EventBus['subscribe']> {
    return this.bus.subscribe({ ...this.defaults, group, types, handle, ...options })
  }

  async collect(
    group: string,
    types: SubscribeOptions['types'],
    options?: Partial<SubscribeOptions>,
  ): Promise<Message[]> {
    const seen: Message[] = []
    await this.subscribe(group, types, (message) => void seen.push(message), options)
    return seen
  }

  dead(group: string): ReturnType<ReturnType<EventBus['deadLetters']>['list']> {
    return this.bus.deadLetters(group).list()
  }

  /** `count` messages whose data is 0, 1, 2, … */
  many(count: number, type: string, key?: string): OutgoingMessage[] {
    return range(count).map((n) => ({ type, data: n, ...(key === undefined ? {} : { key }) }))
  }
}

/** Something to wait for, until the test opens it. */
export function gate(): { readonly opened: Promise<void>; readonly isOpen: boolean; open(): void } {
  let open = (): void => {}
  let isOpen = false
  const opened = new Promise<void>((resolve) => {
    open = () => {
      isOpen = true
      resolve()
    }
  })
  return {
    opened,
    open: () => open(),
    get isOpen() {
      return isOpen
    },
  }
}

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
export const inOrder = (messages: readonly Message[]): unknown[] => messages.map(({ data }) => data)
export const numbers = (messages: readonly Message[]): number[] =>
  messages.map(({ data }) => data as number).toSorted((a, b) => a - b)
