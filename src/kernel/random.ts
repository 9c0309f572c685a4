/** A number in [0, 1), as `Math.random`. */
export type Random = () => number

/** This process's generator. Not for secrets. */
export const systemRandom: Random = () => Math.random()

/** A UUID, version 4, from the platform's secure generator. */
export const randomId = (): string => globalThis.crypto.randomUUID()
