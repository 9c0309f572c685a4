import { afterAll } from 'vitest'
import { bundleFile } from './bundle-file.js'

/** {@link bundleFile} for a test file, at whose top it is to be called: removed at its end. */
export async function bundle(source: string, whole?: boolean): Promise<string> {
  const { path, remove } = await bundleFile(source, whole)
  afterAll(remove)
  return path
}
