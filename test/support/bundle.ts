import { rmSync } from 'node:fs'
import { basename } from 'node:path'
import { build } from 'esbuild'
import { afterAll } from 'vitest'

/**
 * A script as one file that a process starts with at once: without, each one that is forked translates all its sources first. To be
 * called at the top of a test file. @param source from the root of the repository @returns the file's path, once it is there
 */
export async function bundle(source: string): Promise<string> {
  // In the repository, so that packages are found.
  const outfile = `node_modules/.cache/holdfast/${basename(source, '.ts')}-${process.pid}.mjs`
  afterAll(() => rmSync(outfile, { force: true }))
  await build({
    entryPoints: [source],
    outfile,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'error',
  })
  return outfile
}
