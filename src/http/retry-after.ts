/**
 * `Retry-After` in whole seconds: at least 1, and never earlier than it is. `undefined` when nobody knows, or it is never.
 * @param ms milliseconds
 */
export const retryAfterField = (ms: number | undefined): string | undefined =>
  ms === undefined || !(ms < Infinity) ? undefined : String(Math.max(1, Math.ceil(ms / 1_000)))
