import { checkObject } from '../kernel/check.js'
import type { Unsubscribe } from '../kernel/emitter.js'
import type { Bus, BusTypes, BusHandler, BusHandlerOptions, Middleware, SendOptions } from './bus.js'
import { Dispatcher } from './dispatcher.js'

/** Brings each command to the one handler that may change something because of it. */
export class CommandBus<M extends BusTypes<M> = Record<string, { in: unknown; out: unknown }>> implements Bus<M> {
  readonly #dispatcher = new Dispatcher('command')

  on<K extends keyof M & string>(
    type: K,
    handle: BusHandler<M[K]>,
    options: BusHandlerOptions<M[K]> = {},
  ): Unsubscribe {
    const { schema } = checkObject('options', options)
    return this.#dispatcher.on(type, { handle, schema, source: undefined })
  }

  send<K extends keyof M & string>(type: K, input: M[K]['in'], options?: SendOptions): Promise<M[K]['out']> {
    return this.#dispatcher.send(type, input, options)
  }

  use(...middleware: readonly Middleware[]): void {
    this.#dispatcher.use(middleware)
  }
}
