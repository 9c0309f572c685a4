import { checkString } from '../kernel/check.js'
import { checkRedisClient, defineScript, type RedisArg, type RedisClient } from '../kernel/redis.js'
import { FleetMember } from './fleet.js'
import { fleetSettings, type FleetSettings } from './fleet-settings.js'
import { circuitLua } from './redis.lua.js'
import type {
  CircuitBreakerStore,
  CircuitLedger,
  CircuitMember,
  FleetOptions,
  TrialLease,
  LocalCircuit,
  SharedCircuit,
  SharedCircuitState,
  TrialResult,
} from './store.js'

export type { RedisClient }
export type { FleetOptions }

/** How a {@link RedisCircuitBreakerStore} names its keys, and how a fleet works together. */
export interface RedisCircuitBreakerStoreOptions extends FleetOptions {
  /** Stands before the circuit's name in its key. @defaultValue `'holdfast:circuit:'` */
  readonly prefix?: string | undefined
}

const script = defineScript(circuitLua)

/**
 * Fleets of circuits in Redis ≥ 6.2, one server or Cluster: all circuits of one name, under one prefix. One key each, which goes
 * a day after it was last used; one script call for each look or change, made in the background: no call of a circuit ever
 * waits for Redis, and none fails when Redis does.
 */
export class RedisCircuitBreakerStore implements CircuitBreakerStore, CircuitLedger {
  readonly #client: RedisClient
  readonly #prefix: string
  readonly #settings: FleetSettings

  /**
   * @param client stays the caller's, who closes it
   * @throws InvalidOptionError when an argument is of the wrong kind. Nothing is sent.
   */
  constructor(client: RedisClient, options: RedisCircuitBreakerStoreOptions = {}) {
    this.#client = checkRedisClient(client)
    this.#settings = fleetSettings(options)
    this.#prefix = checkString('prefix', options.prefix ?? 'holdfast:circuit:', 0)
  }

  join(circuit: LocalCircuit): CircuitMember {
    return new FleetMember(this, this.#settings, circuit)
  }

  view(name: string): Promise<SharedCircuit> {
    return this.#run(name, 'view', -1)
  }

  vote(
    name: string,
    { node, generation, openMs, quorum }: { node: string; generation: number; openMs: number; quorum: number },
  ): Promise<SharedCircuit> {
    return this.#run(name, 'vote', generation, node, openMs, quorum)
  }

  acquire(
    name: string,
    { id, generation, trials, leaseMs }: TrialLease & { trials: number; leaseMs: number },
  ): Promise<SharedCircuit> {
    return this.#run(name, 'acquire', generation, id, trials, leaseMs)
  }

  settle(
    name: string,
    { id, generation, failed, slow, rules, openMs }: TrialLease & TrialResult,
  ): Promise<SharedCircuit> {
    const result = failed === 'ignore' ? 'ignore' : failed ? 'failure' : 'success'
    const { trials, failuresToOpen, slowToOpen } = rules
    const slowLimit = slowToOpen === Infinity ? trials + 1 : slowToOpen // Lua does not read Infinity
    return this.#run(name, 'settle', generation, id, result, slow ? 1 : 0, trials, failuresToOpen, slowLimit, openMs)
  }

  close(name: string, generation: number | undefined): Promise<SharedCircuit> {
    return this.#run(name, 'close', generation ?? -1)
  }

  async #run(name: string, what: string, generation: number, ...args: RedisArg[]): Promise<SharedCircuit> {
    const reply = await script.run(this.#client, [this.#prefix + name], [what, generation, ...args])
    const [now, state, ...others] = reply as Reply
    const [openForMs, openings, granted, leasedForMs] = others.map(Number) // a client may have been told to give strings
    return {
      generation: Number(now),
      state,
      openForMs: openForMs!,
      openings: openings!,
      granted: granted === 1,
      leasedForMs: leasedForMs!,
    }
  }
}

type Int = number | string
type Reply = readonly [Int, SharedCircuitState, Int, Int, Int, Int]
