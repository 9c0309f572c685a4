import { checkNumber, checkObject, invalid, show } from '../kernel/check.js'
import type { Unsubscribe } from '../kernel/emitter.js'
import { InvalidOptionError } from '../kernel/errors.js'
import type { Bus, BusTypes, BusHandler, BusHandlerOptions, Middleware, SendOptions } from './bus.js'
import { Dispatcher } from './dispatcher.js'
import type { ReadModel } from './read-model.js'

/** How a {@link QueryBus} answers. */
export interface QueryBusOptions {
  /** What `atLeast` waits for where a handler names no read model of its own. @defaultValue none */
  readonly readModel?: ReadModel | undefined
}

/** How a type of query is answered. */
export interface QueryHandlerOptions<T extends { readonly in: unknown }> extends BusHandlerOptions<T> {
  /** What the handler reads from. @defaultValue the bus's */
  readonly readModel?: ReadModel | undefined
}

/** How one query is sent. */
export interface QueryOptions extends SendOptions {
  /**
   * Read your writes: the handler runs when its read model has reached this position, which a command's `append` or
   * `handle` gave back. ≥ 0. @defaultValue none: the handler reads what is there
   */
  readonly atLeast?: number | undefined
  /** How long to wait for `atLeast`, in milliseconds. ≥ 0. @defaultValue 5_000 */
  readonly timeoutMs?: number | undefined
}

/** Brings each query to the one handler that answers it from a read model. */
export class QueryBus<M extends BusTypes<M> = Record<string, { in: unknown; out: unknown }>> implements Bus<M> {
  readonly #dispatcher = new Dispatcher<ReadModel | undefined>('query')
  readonly #readModel: ReadModel | undefined

  /** @throws InvalidOptionError when `readModel` is none. */
  constructor({ readModel }: QueryBusOptions = {}) {
    this.#readModel = checkReadModel(readModel)
  }

  on<K extends keyof M & string>(
    type: K,
    handle: BusHandler<M[K]>,
    options: QueryHandlerOptions<M[K]> = {},
  ): Unsubscribe {
    const { schema, readModel } = checkObject('options', options)
    return this.#dispatcher.on(type, { handle, schema, source: checkReadModel(readModel) ?? this.#readModel })
  }

  /**
   * As {@link Bus.send}.
   * @throws TimeoutError when the read model has not reached `atLeast` in time, InvalidOptionError when there is no read
   * model to wait for: the handler did not run.
   */
  async send<K extends keyof M & string>(type: K, input: M[K]['in'], options: QueryOptions = {}): Promise<M[K]['out']> {
    const { atLeast, timeoutMs = 5_000 } = checkObject('options', options)
    checkNumber('timeoutMs', timeoutMs, 0)
    if (atLeast === undefined) return this.#dispatcher.send(type, input, options)
    checkNumber('atLeast', atLeast, 0)
    return this.#dispatcher.send(type, input, options, async (readModel, signal) => {
      if (!readModel) throw new InvalidOptionError(`atLeast: query ${show(type)} has no read model to wait for`)
      await readModel.reached(atLeast, timeoutMs, signal)
    })
  }

  use(...middleware: readonly Middleware[]): void {
    this.#dispatcher.use(middleware)
  }
}

function checkReadModel(readModel: ReadModel | undefined): ReadModel | undefined {
  if (readModel !== undefined && typeof checkObject('readModel', readModel).reached !== 'function')
    invalid('readModel', 'an object with a method reached', readModel)
  return readModel
}
