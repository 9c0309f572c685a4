// npm run example NAME: runs examples/NAME.ts; without a name, says which there are.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'

const names = readdirSync('examples')
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.slice(0, -'.ts'.length))
const [name] = process.argv.slice(2)
if (name === undefined || !names.includes(name)) {
  console.error(
    `${name === undefined ? 'Which example?' : `No example '${name}'.`} npm run example ${names.join(' | ')}`,
  )
  process.exit(name === undefined ? 0 : 1)
}
const { status } = spawnSync(process.execPath, ['--import', 'tsx', `examples/${name}.ts`], { stdio: 'inherit' })
process.exit(status ?? 1)
