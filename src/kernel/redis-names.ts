/** `prefix` as it stands in names: with a hash tag, so that all keys that begin with it are in one slot of a Redis Cluster. */
export function hashTagged(prefix: string): string {
  const open = prefix.indexOf('{')
  const close = open < 0 ? -1 : prefix.indexOf('}', open + 1)
  return close > open + 1 ? prefix : `{${prefix.replaceAll('}', '')}:}`
}

/** A text as part of a name: halves of surrogate pairs, which UTF-8 has no bytes for, must not all become the same character. */
export const nameOf = (text: string): string => (LONE.test(text) ? `!${JSON.stringify(text)}` : `:${text}`)

/** What {@link nameOf} was given. */
export const textOf = (name: string): string =>
  name.startsWith('!') ? (JSON.parse(name.slice(1)) as string) : name.slice(1)

const LONE = /\p{Cs}/u
