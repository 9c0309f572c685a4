import { messageOf } from './errors.js'

/**
 * Tells the host of an error that must not change an outcome: a listener that threw, a clean-up that failed. A warning of
 * the process where there is one (Node, Bun, Deno), the global `reportError` elsewhere. Never throws.
 */
export function reportError(error: unknown): void {
  const host = globalThis as {
    process?: { emitWarning?: (warning: Error) => void }
    reportError?: (e: unknown) => void
  }
  if (host.process?.emitWarning) host.process.emitWarning(isError(error) ? error : new Error(messageOf(error)))
  else host.reportError?.(error)
}

function isError(value: unknown): value is Error {
  try {
    return value instanceof Error
  } catch {
    return false // a revoked proxy
  }
}
