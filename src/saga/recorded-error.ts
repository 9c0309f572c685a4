import type { RecordedError } from './journal.js'

const LONGEST_MESSAGE = 2_000

/** What of a thrown value every process can read later. Never throws, whatever it is given. */
export function recordError(thrown: unknown): RecordedError {
  try {
    if (!(thrown instanceof Error)) return { name: 'Error', message: text(thrown) }
    const { name, message, code } = thrown as Error & { code?: unknown }
    return { name: text(name), message: text(message), ...(typeof code === 'string' ? { code } : {}) }
  } catch {
    return { name: 'Error', message: 'threw something that can not be shown' }
  }
}

/** Also of what only pretends to be an error: nothing keeps `message` from being an object. */
function text(value: unknown): string {
  const whole = String(value)
  return whole.length > LONGEST_MESSAGE ? `${whole.slice(0, LONGEST_MESSAGE)}…` : whole
}
