import { isDeepStrictEqual } from 'node:util'
import { checkObject, checkString, invalid } from '../kernel/check.js'
import { jsonCodec } from '../kernel/codec.js'
import { everyNode, type SagaDefinition } from './definition.js'
import { SagaConflictError } from './errors.js'
import type { Order } from './operators.js'
import type { Operator } from './orchestrator-options.js'
import type { DefinitionKey, SagaStore, StoredSaga } from './store.js'
import { driftError } from './worker.js'

/** @throws InvalidOptionError for what is no definition, or one that `store` can't run. */
export function checkDefinition(option: string, definition: SagaDefinition, store: SagaStore): void {
  const { nodes, hash } = checkObject(option, definition)
  if (!Array.isArray(nodes) || typeof hash !== 'string') invalid(option, 'a saga made by build()', definition)
  if (!store.transaction && [...everyNode(nodes)].some((node) => node.kind === 'transaction'))
    invalid(option, 'a saga without transactions, which this store has not', definition.name)
}

/** What an order says of who gives it. @throws InvalidOptionError */
export function orderOf(by: Operator): Order {
  if (typeof by === 'string') return { who: checkString('by', by) }
  const { who, why } = checkObject('by', by)
  return { who: checkString('by.who', who), ...(why === undefined ? {} : { why: checkString('by.why', why, 0) }) }
}

/** @param input text of the codec. @throws SagaConflictError, SagaDefinitionDriftError when `saga` is another one than is to be begun. */
export function checkSame(saga: StoredSaga, { name, version, hash }: DefinitionKey, input: string): void {
  if (saga.name !== name || saga.version !== version) {
    const taken = `'${saga.name}' version ${saga.version}`
    throw new SagaConflictError(`id '${saga.id}' is taken by ${taken}, not '${name}' version ${version}`, saga.id)
  }
  if (saga.hash !== hash) throw driftError(saga.id, name, version)
  if (saga.input !== input && !isDeepStrictEqual(jsonCodec.decode(saga.input), jsonCodec.decode(input)))
    throw new SagaConflictError(`saga '${saga.id}' was begun with another input`, saga.id)
}
