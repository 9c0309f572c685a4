import { jsonCodec } from '../kernel/codec.js'
import { InvalidPayloadError } from '../kernel/errors.js'

/**
 * Characters of JSON that an input, a signal, or what one body gives may be long. A record holds what several bodies gave, with each quote escaped
 * once more, and what no store takes would be tried again for ever: this much always fits.
 */
export const MOST_CHARACTERS = 16_777_216

/** @param what is said in the error. @throws InvalidPayloadError for what the codec can't keep, or what is too long. */
export function payloadText(what: string, value: unknown): string {
  const text = jsonCodec.encode(value)
  checkLength(what, text.length)
  return text
}

/** @param length characters of JSON. @throws InvalidPayloadError */
export function checkLength(what: string, length: number): void {
  if (length > MOST_CHARACTERS)
    throw new InvalidPayloadError(`${what}: at most ${MOST_CHARACTERS} characters as JSON are kept, not ${length}`)
}
