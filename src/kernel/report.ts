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
  try {
    if (host.process?.emitWarning)
      host.process.emitWarning(error instanceof Error ? error : new Error(messageOf(error)))
    else host.reportError?.(error)
  } catch {
    host.process?.emitWarning?.(new Error('something that has no text')) // a revoked proxy, or one with a trap that throws
  }
}
