import { nameOf } from '../kernel/redis-names.js'

/** How the keys of a bus are called. `prefix` has a hash tag: all are in one slot. */
export class BusNames {
  /** Hash: the version of the routes, and by group its order and types. */
  readonly groups: string
  /** Stream: every message that some group still needs, once. */
  readonly log: string
  /** Hash: how many groups still need a message, where it is more than one. */
  readonly refs: string

  constructor(private readonly prefix: string) {
    this.groups = `${prefix}groups`
    this.log = `${prefix}log`
    this.refs = `${prefix}refs`
  }

  /** String: the last call of a publisher and its answer. */
  sender(id: string): string {
    return `${this.prefix}sender:${id}`
  }

  /** Where a group's consumers hear that there is work. */
  channel(group: string): string {
    return `${this.prefix}wake${nameOf(group)}`
  }

  /** What `publish` touches of a group: its stream, calls (who is asleep), the dead (counted); with an order its lanes and those behind too. */
  published(group: string, order: 'k' | 'n'): readonly string[] {
    const kinds = ['stream', 'calls', 'dead', ...(order === 'k' ? ['lanes', 'behind'] : [])]
    return kinds.map((kind) => `${this.prefix}${kind}${nameOf(group)}`)
  }

  /** All keys that a script of one group touches, in the order in which the scripts name them. */
  ofGroup(group: string): readonly string[] {
    const kinds = ['stream', 'lanes', 'behind', 'due', 'retries', 'consumers', 'calls', 'dead', 'graves']
    return [this.groups, this.log, this.refs, ...kinds.map((kind) => `${this.prefix}${kind}${nameOf(group)}`)]
  }
}
