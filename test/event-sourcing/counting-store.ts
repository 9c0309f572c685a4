/** What was done with a store. */
export interface Uses {
  appends: number
  reads: number
  /** Events read from streams. */
  events: number
  infos: number
}

/** `store`, and what was done with it. */
export function counting<S extends object>(store: S): { store: S; uses: Uses; reset(): void } {
  const uses: Uses = { appends: 0, reads: 0, events: 0, infos: 0 }
  const counted = new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if (name === 'append' || name === 'appendAll') uses.appends++
        if (name === 'info') uses.infos++
        const answer: unknown = Reflect.apply(value, target, args)
        if (name !== 'read') return answer
        uses.reads++
        return (async function* () {
          for await (const event of answer as AsyncIterable<unknown>) {
            uses.events++
            yield event
          }
        })()
      }
    },
  })
  return { store: counted, uses, reset: () => void Object.assign(uses, { appends: 0, reads: 0, events: 0, infos: 0 }) }
}
