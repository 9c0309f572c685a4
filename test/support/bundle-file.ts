import { rmSync } from 'node:fs'
import { basename } from 'node:path'
import { build } from 'esbuild'

/** For packages in CommonJS. */
const REQUIRE = `import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);`

/**
 * A script as one file that a process starts with at once: without, each one that is forked translates all its sources first.
 * @param source from the root of the repository @param whole packages too: for processes of which many are started
 * @returns the file's path, once it is there
 */
export async function bundleFile(
  source: string,
  whole: boolean = false,
): Promise<{ readonly path: string; remove(): void }> {
  // In the repository, so that packages are found.
  const path = `node_modules/.cache/holdfast/${basename(source, '.ts')}-${process.pid}.mjs`
  await build({
    entryPoints: [source],
    outfile: path,
    bundle: true,
    ...(whole ? { external: ['pg-native'], banner: { js: REQUIRE } } : { packages: 'external' }),
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'error',
  })
  return { path, remove: () => rmSync(path, { force: true }) }
}
