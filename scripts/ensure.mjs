// Makes a fresh clone ready; does nothing, quickly, when all is there. No dependencies: it runs before there are any.
//   node scripts/ensure.mjs             the packages of package-lock.json
//   node scripts/ensure.mjs --servers   and what the tests start: Redis, PostgreSQL, RabbitMQ, Chromium, curl
//   node scripts/ensure.mjs --bench     and the packages of bench/, where the peers are
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { chromium, onPath, postgresBin, rabbitmqServer, redisServer } from './programs.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

function fail(message) {
  console.error(`holdfast: ${message}`)
  process.exit(1)
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  return error === undefined && status === 0
}

function ensurePackages(folder) {
  const lock = createHash('sha256')
    .update(readFileSync(join(folder, 'package-lock.json')))
    .digest('hex')
  const wanted = `${lock} ${process.platform} ${process.arch}\n`
  const mark = join(folder, 'node_modules', '.ready')
  if (existsSync(mark) && readFileSync(mark, 'utf8') === wanted) return
  console.log('holdfast: installing packages (once) …')
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
  const quiet = ['--no-audit', '--no-fund', '--loglevel=error']
  if (!run(npm, ['ci', ...quiet], { cwd: folder, shell: process.platform === 'win32' })) {
    fail('npm ci failed, see above. Nothing else was tried.')
  }
  writeFileSync(mark, wanted)
}

/** Each program the tests start: the variable that names another, where to look, and who installs it. */
const programs = [
  { name: 'Redis', variable: 'REDIS_URL', find: redisServer, apt: 'redis-server', brew: 'redis' },
  { name: 'PostgreSQL', variable: 'DATABASE_URL', find: postgresBin, apt: 'postgresql', brew: 'postgresql@17' },
  { name: 'RabbitMQ', variable: 'RABBITMQ_URL', find: rabbitmqServer, apt: 'rabbitmq-server', brew: 'rabbitmq' },
  { name: 'Chromium', variable: 'CHROMIUM_PATH', find: chromium, apt: 'chromium', brew: '--cask chromium' },
  { name: 'curl', find: () => onPath('curl'), apt: 'curl', brew: 'curl' },
]

/** @param asRoot runs a command, and says whether it has worked */
function installWithApt(wanted, asRoot) {
  const aptGet = (...args) => asRoot('env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', ...args)
  const install = (...names) => aptGet('install', '-y', '-qq', '--no-install-recommends', ...names)
  const names = wanted.map(({ apt }) => apt)
  aptGet('update', '-qq') // a stale mirror list may still do
  // What this system does not have (Ubuntu's Chromium is a snap) must not keep the others away.
  if (!install(...names) && names.length > 1) for (const name of names) install(name)
  // Debian starts the servers that it installs, RabbitMQ on every address: tests start their own, on 127.0.0.1.
  const services = wanted.filter(({ variable, find }) => variable?.endsWith('_URL') && find()).map(({ apt }) => apt)
  if (services.length > 0 && existsSync('/run/systemd/system')) asRoot('systemctl', 'disable', '--now', ...services)
}

function ensureServers() {
  const missing = () => programs.filter(({ variable, find }) => !(variable && process.env[variable]) && !find())
  const first = missing()
  if (first.length === 0) return
  const names = first.map(({ name }) => name).join(', ')
  if (onPath('apt-get')) {
    console.log(`holdfast: installing ${names} with apt-get (once) …`)
    const sudo = process.getuid() === 0 ? [] : process.stdin.isTTY ? ['sudo'] : ['sudo', '-n']
    const asRoot = (...args) => {
      const [command, ...rest] = [...sudo, ...args]
      return run(command, rest)
    }
    if (asRoot('true')) installWithApt(first, asRoot)
  }
  const left = missing()
  if (left.length === 0) return
  fail(
    [
      `the tests need ${left.map(({ name }) => name).join(', ')} on this machine, and could not install what is missing. Either:`,
      `  Debian, Ubuntu:  sudo apt-get install -y ${left.map(({ apt }) => apt).join(' ')}`,
      ...left.map(({ brew }) => `  macOS:           brew install ${brew}`),
      ...left
        .filter(({ variable }) => variable)
        .map(({ name, variable }) => {
          const what = variable.endsWith('_PATH') ? 'path' : 'address'
          return `  or set ${variable} to the ${what} of a ${name} of your own`
        }),
      `Tests without servers: npm run test:unit`,
    ].join('\n'),
  )
}

if (Number(process.versions.node.split('.')[0]) < 20) fail(`Node 20 or newer is needed, this is ${process.version}`)
ensurePackages(root)
if (process.argv.includes('--servers')) ensureServers()
if (process.argv.includes('--bench')) ensurePackages(join(root, 'bench'))
