import { checkInteger, checkObject, checkPositive } from '../kernel/check.js'
import type { FleetOptions, SharedCircuit } from './store.js'

/** {@link FleetOptions}, checked. */
export type FleetSettings = Required<{ readonly [K in keyof FleetOptions]: number }>

/** @throws InvalidOptionError when an option is out of its range. */
export function fleetSettings(options: FleetOptions): FleetSettings {
  const { quorum = 1, syncMs = 500, leaseMs = 5_000, storeTimeoutMs = 250 } = checkObject('options', options)
  return {
    quorum: checkInteger('quorum', quorum, 1),
    syncMs: checkPositive('syncMs', syncMs),
    leaseMs: checkPositive('leaseMs', leaseMs),
    storeTimeoutMs: checkPositive('storeTimeoutMs', storeTimeoutMs),
  }
}

/** A fleet of which nothing is known. */
export const UNKNOWN: SharedCircuit = {
  generation: 0,
  state: 'closed',
  openForMs: 0,
  openings: 0,
  granted: false,
  leasedForMs: 0,
}
