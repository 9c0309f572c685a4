/** A promise and its two ends. */
export function deferred<T = unknown>(): {
  promise: Promise<T>
  resolve: (value: T) => void
  reject: (error: unknown) => void
} {
  let resolve!: (value: T) => void
  let reject!: (error: unknown) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}

export const ok = (): Promise<string> => Promise.resolve('ok')
export const failing = (message: string) => (): Promise<never> => Promise.reject(new Error(message))
