import { checkObject, checkString, invalid } from '../kernel/check.js'
import type { Event } from './event.js'
import type { Query } from './store.js'

/** Whether `event` satisfies `query`; every event does when there is none. */
export function matches(query: Query | undefined, { type, tags = [] }: Pick<Event, 'type' | 'tags'>): boolean {
  if (!query) return true
  return query.items.some(
    (item) =>
      (!item.types || item.types.includes(type)) && (!item.tags || item.tags.every((tag) => tags.includes(tag))),
  )
}

/** `query` if it is one. @throws InvalidOptionError otherwise. */
export function checkQuery(query: Query | undefined): Query | undefined {
  if (query === undefined) return undefined
  if (!Array.isArray(checkObject('query', query).items)) return invalid('query.items', 'an array', query.items)
  for (const item of query.items) {
    const { types, tags } = checkObject('query.items', item)
    checkNames('query types', types)
    checkNames('query tags', tags)
  }
  return query
}

function checkNames(option: string, names: readonly string[] | undefined): void {
  if (names === undefined) return
  if (!Array.isArray(names) || names.length === 0) invalid(option, 'an array that is not empty', names)
  for (const name of names) checkString(option, name)
}

/** Whether it is a query, and not a list of types. */
export const isQuery = (on: readonly string[] | Query): on is Query => !Array.isArray(on)
