// Declarations: one run of the compiler for ESM, the same files again under {"type":"commonjs"} for CommonJS.
import { spawnSync } from 'node:child_process'
import { cpSync, rmSync, writeFileSync } from 'node:fs'

rmSync('dist/types', { recursive: true, force: true })
const compiler = ['node_modules/ts7/bin/tsc', '-p', 'tsconfig.build.json', '--outDir', 'dist/types/esm']
const { status } = spawnSync(process.execPath, compiler, { stdio: 'inherit' })
if (status !== 0) process.exit(status ?? 1)
cpSync('dist/types/esm', 'dist/types/cjs', { recursive: true })
writeFileSync('dist/types/cjs/package.json', '{ "type": "commonjs" }\n')
