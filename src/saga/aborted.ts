/** Why a body is asked to stop. */
export function aborted(message: string): Error {
  const error = new Error(message)
  error.name = 'AbortError'
  return error
}

/** {@link aborted}, because this process does not own the saga any more. */
export const lost = (id: string): Error => aborted(`saga '${id}' has another owner`)
