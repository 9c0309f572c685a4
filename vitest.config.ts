import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** Files at once: most of them wait for servers, processes or leases, so two for one core are not too many. */
const maxWorkers = Math.max(2, availableParallelism() - 1)

/** Of what is waited for: as long as a machine may take that does other things too. A plain `expect.poll` gives up after a second. */
const expect = { poll: { timeout: 20_000 } }

// `holdfast/…` in examples and tests is the source: tsconfig.json has the paths.
const shared = { resolve: { tsconfigPaths: true } }

export default defineConfig({
  test: {
    maxWorkers,
    reporters: ['default', './test/support/closing-line.ts'],
    coverage: { provider: 'v8', include: ['src/**/*.ts'], reporter: ['text-summary', 'html'] },
    projects: [
      {
        ...shared,
        test: {
          name: 'unit',
          expect,
          isolate: false,
          testTimeout: 60_000, // properties, on a machine that does other things too
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.integration.test.ts', 'test/package.test.ts', 'test/docs.test.ts'],
        },
      },
      {
        ...shared,
        test: {
          name: 'integration',
          expect,
          include: ['test/**/*.integration.test.ts'],
          globalSetup: ['test/support/servers.ts'],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        ...shared,
        test: {
          name: 'package',
          include: ['test/package.test.ts', 'test/docs.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 300_000,
          maxConcurrency: 3,
        },
      },
    ],
  },
})
