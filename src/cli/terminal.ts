/** What a command has of the world. */
export interface Terminal {
  /** Writes a line of what was asked for. */
  readonly out: (line: string) => void
  /** Writes a line about it. */
  readonly err: (line: string) => void
  /** Width in characters; `Infinity` when it is no terminal. */
  readonly columns: number
  readonly env: Readonly<Record<string, string | undefined>>
  /** Puts a question and gives the line that came; `undefined` when there is nobody to ask. */
  readonly ask?: ((question: string) => Promise<string>) | undefined
  /** Aborts when the command is to end. */
  readonly signal: AbortSignal
}

/** The command line can't be understood. */
export class UsageError extends Error {}

/** `line`, cut to the width of the terminal. */
export const fit = (line: string, { columns }: Terminal): string =>
  line.length <= columns ? line : `${line.slice(0, columns - 1)}…`

/** `text` without anything that could break a line or move the cursor. */
export const visible = (text: string): string =>
  text.replaceAll(/\p{Cc}/gu, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)

/** `text` in quotes, {@link visible}. */
export const quoted = (text: string): string => visible(JSON.stringify(text))

/** `text` as one word of a line: in quotes when it would not be one. */
export const word = (text: string): string => (/^[\x21-\x7e]+$/.test(text) ? text : quoted(text))

/** The number that an option gives. @throws UsageError unless it is an integer of at least `min`. */
export function integerOf(option: string, text: string | undefined, min: number): number | undefined {
  if (text === undefined) return undefined
  const number = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(number) || number < min)
    throw new UsageError(`--${option}: expected an integer ≥ ${min}, got ${JSON.stringify(text)}`)
  return number
}

/** The moment that an option gives. @throws UsageError unless it is a date. */
export function dateOf(option: string, text: string | undefined): Date | undefined {
  if (text === undefined) return undefined
  const date = new Date(text)
  if (Number.isNaN(date.getTime()))
    throw new UsageError(`--${option}: expected a date such as 2026-01-31T12:00:00Z, got ${JSON.stringify(text)}`)
  return date
}
