import { defineConfig } from 'vitest/config'

// `holdfast/…` in examples and tests is the source: tsconfig.json has the paths.
const shared = { resolve: { tsconfigPaths: true } }

export default defineConfig({
  test: {
    reporters: ['default', './test/support/closing-line.ts'],
    coverage: { provider: 'v8', include: ['src/**/*.ts'], reporter: ['text-summary', 'html'] },
    projects: [
      {
        ...shared,
        test: {
          name: 'unit',
          isolate: false,
          testTimeout: 20_000, // properties, on a machine that does other things too
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.integration.test.ts', 'test/package.test.ts', 'test/docs.test.ts'],
        },
      },
      {
        ...shared,
        test: {
          name: 'integration',
          include: ['test/**/*.integration.test.ts'],
          globalSetup: ['test/support/servers.ts'],
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        ...shared,
        test: {
          name: 'package',
          include: ['test/package.test.ts', 'test/docs.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
})
