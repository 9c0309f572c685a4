import { rmSync } from 'node:fs'
import { basename } from 'node:path'
import { build } from 'esbuild'

/**
 * A script as one file that a process starts with at once: without, each one that is forked translates all its sources first.
 * @param source from the root of the repository @returns the file's path, once it is there
 */
export async function bundleFile(source: string): Promise<{ readonly path: string; remove(): void }> {
  // In the repository, so that packages are found.
  const path = `node_modules/.cache/holdfast/${basename(source, '.ts')}-${process.pid}.mjs`
  await build({
    entryPoints: [source],
    outfile: path,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'error',
  })
  return { path, remove: () => rmSync(path, { force: true }) }
}
