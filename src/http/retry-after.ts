/**
 * `Retry-After` in whole seconds: at least 1, and never earlier than it is. `undefined` when nobody knows, or it is never.
 * @param ms milliseconds
 */
export const retryAfterField = (ms: number | undefined): string | undefined =>
  ms === undefined || !(ms < Infinity) ? undefined : String(Math.max(1, Math.ceil(ms / 1_000)))

/** A date as HTTP writes it, in epoch milliseconds. Source: RFC 9110, 5.6.7. */
export function httpDate(text: string | undefined): number | undefined {
  // Date.parse alone takes many other things, such as '-5' for a year.
  const at = text !== undefined && /^[A-Za-z]{3,9},? /.test(text) ? Date.parse(text) : NaN
  return Number.isNaN(at) ? undefined : at
}

/**
 * What a `Retry-After` field says, in milliseconds ≥ 0; `undefined` when it says nothing that can be read.
 * @param field seconds, or a date
 * @param nowMs epoch milliseconds: what a date is counted from
 */
export function parseRetryAfter(field: string, nowMs: number): number | undefined {
  const text = field.trim()
  if (/^\d{1,15}$/.test(text)) return Number(text) * 1_000
  const at = httpDate(text)
  return at === undefined ? undefined : Math.max(0, at - nowMs)
}
