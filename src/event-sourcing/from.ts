import { checkInteger, checkOneOf, invalid } from '../kernel/check.js'
import type { Event } from './event.js'
import type { EventStore } from './store.js'

/** Where a name that has no checkpoint yet begins. */
export type From = 'start' | 'end' | number | Date

export function checkFrom(from: From): From {
  if (typeof from === 'number') return checkInteger('from', from, 0)
  if (from instanceof Date) return Number.isNaN(from.getTime()) ? invalid('from', 'a valid Date', from) : from
  return checkOneOf<'start' | 'end'>('from', from, ['start', 'end'])
}

/** The position after which it begins. */
export async function firstPosition<E extends Event>(
  store: EventStore<E>,
  from: From,
  signal: AbortSignal,
): Promise<number> {
  if (from === 'start') return 0
  if (typeof from === 'number') {
    await store.readPage({ after: from, limit: 1 }) // beyond the end it throws, before that becomes the checkpoint
    return from
  }
  const { head } = await store.readPage({ limit: 1 })
  if (from === 'end') return head
  for await (const event of store.readAll({ signal })) if (event.recordedAt >= from) return event.position - 1
  return head
}
