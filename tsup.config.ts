import { readFileSync } from 'node:fs'
import { defineConfig } from 'tsup'

/** Every subpath of `exports` is one entry: `./cache/redis` is `src/cache/redis.ts`, `./cache` is `src/cache/index.ts`. */
const { exports } = JSON.parse(readFileSync('package.json', 'utf8')) as {
  exports: Record<string, { import?: { types: string } }>
}
const sources = Object.values(exports).flatMap(({ import: target }) =>
  target ? [target.types.replace('./dist/types/esm/', 'src/').replace(/\.d\.ts$/, '.ts')] : [],
)

const entry = Object.fromEntries(sources.map((source) => [source.slice('src/'.length, -'.ts'.length), source]))

export default defineConfig(
  (['esm', 'cjs'] as const).map((format) => ({
    entry: format === 'esm' ? { ...entry, cli: 'src/cli/main.ts' } : entry,
    external: ['pg', 'ioredis'], // the user's own
    format,
    target: 'node20',
    platform: 'node',
    splitting: true, // the kernel exists once per format
    sourcemap: format === 'esm', // tsup's maps of split CommonJS lead to its own files, with the path of the machine
    dts: false, // scripts/build-types.mjs makes them ten times faster
    removeNodeProtocol: false,
  })),
)
