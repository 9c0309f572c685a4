/** A date as HTTP writes it, in any of its three forms, in epoch milliseconds. Source: RFC 9110, 5.6.7. */
export function httpDate(text: string | undefined): number | undefined {
  // Date.parse alone takes many other things, such as '-5' for a year, and the form without a zone as local time.
  const form = /^[A-Za-z]{3,9}(?:,| ([A-Za-z]{3}) )/.exec(text ?? '')
  const at = form ? Date.parse(form[1] ? `${text} GMT` : text!) : NaN
  return Number.isNaN(at) ? undefined : at
}

/**
 * What a `Retry-After` field says, in milliseconds ≥ 0; `undefined` when it says nothing that can be read.
 * Source: RFC 9110, 10.2.3; parts of a second are read too.
 * @param field seconds, or a date
 * @param nowMs epoch milliseconds: what a date is counted from
 */
export function parseRetryAfter(field: string, nowMs: number): number | undefined {
  const text = field.trim()
  if (/^\d{1,15}(\.\d+)?$/.test(text)) return Number(text) * 1_000
  const at = httpDate(text)
  return at === undefined ? undefined : Math.max(0, at - nowMs)
}
