// Starts real servers on free ports of 127.0.0.1 in a temporary folder, for tests and benches. No dependencies.
import { execFile, spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { onPath, postgresBin, rabbitmqServer, redisServer } from './programs.mjs'

const isRoot = process.getuid?.() === 0
const READY_MS = 120_000 // a busy machine; RabbitMQ takes five seconds on an idle one
const KEPT = 200_000 // characters of what each server has printed

/**
 * Starts a server anew as long as its port is taken: one that was free may be somebody else's by now, and one of before that of a server
 * that has not quite ended, or of a client that tries to reach it.
 */
async function again(start) {
  for (const late = Date.now() + READY_MS; ;) {
    try {
      return await start()
    } catch (error) {
      if (!/in use/i.test(error.message) || Date.now() > late) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

/** Tests cut lines and wait for locks by the thousand: what is said of each would leave no room for the rest. */
const LOGS = `log.console = true
log.console.use_colors = off
log.file = false
log.connection.level = error
log.channel.level = critical
`

/** A port of 127.0.0.1 that is free now. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

/** Servers of this process: they end with {@link Servers.stop}, and with the process, however it ends. */
export class Servers {
  #folder = mkdtempSync(join(tmpdir(), 'holdfast-'))
  #running = new Set()
  /** By name, what a server has printed: the end of it. */
  output = new Map()
  /** Whether it is told to {@link stop}: what was about to start then fails. */
  stopped = false
  #databases = 0

  constructor() {
    chmodSync(this.#folder, 0o755) // PostgreSQL runs as another user when we are root
    process.once('exit', () => {
      for (const child of this.#running) child.kill('SIGKILL')
      rmSync(this.#folder, { recursive: true, force: true })
    })
  }

  /** A Redis without persistence. @param more settings of its own, `port` too @returns its process id and address */
  async redis(more = {}) {
    const program = redisServer() ?? missing('redis-server', 'REDIS_URL')
    return again(async () => {
      const port = more.port ?? (await freePort())
      const folder = this.#sub(`redis-${port}`)
      const settings = { port, bind: '127.0.0.1', dir: folder, save: '', appendonly: 'no', ...more }
      const child = await this.#start(program, flags('--', settings), { ready: /Ready to accept connections/ })
      return { pid: child.pid, port, url: `redis://127.0.0.1:${port}` }
    })
  }

  /** A Redis Cluster of `nodes` masters that share the slots. @returns its nodes, once each of them knows all */
  async redisCluster(nodes = 3) {
    const masters = []
    for (let i = 0; i < nodes; i++) {
      masters.push(
        await this.redis({
          'cluster-enabled': 'yes',
          'cluster-port': await freePort(),
          'cluster-announce-ip': '127.0.0.1',
          'cluster-node-timeout': 2_000,
        }),
      )
    }
    for (const [i, { port }] of masters.entries()) {
      const first = Math.floor((i * SLOTS) / nodes)
      await tell(port, `cluster addslotsrange ${first} ${Math.floor(((i + 1) * SLOTS) / nodes) - 1}`)
      await tell(port, `cluster set-config-epoch ${i + 1}`)
      const bus = /cluster_bus:(\d+)|@(\d+)/.exec(await tell(masters[0].port, 'cluster nodes'))
      if (i > 0) await tell(port, `cluster meet 127.0.0.1 ${masters[0].port} ${bus?.[1] ?? bus?.[2]}`)
    }
    const late = Date.now() + READY_MS
    for (const { port } of masters) {
      while (!isWhole(await tell(port, 'cluster info'), nodes)) {
        if (Date.now() > late) throw new Error(`Redis Cluster was not ready in ${READY_MS} ms`)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
    return masters
  }

  /** A PostgreSQL with an empty database, fast rather than durable. @param more settings of its own @returns its process id and address */
  async postgres(more = {}) {
    const bin = postgresBin() ?? missing('postgresql', 'DATABASE_URL')
    const user = isRoot ? 'postgres' : undefined // it refuses to run as root
    const folder = this.#sub(`postgres-${++this.#databases}`, user)
    const data = join(folder, 'data')
    const [command, ...args] = [
      ...as(user),
      join(bin, 'initdb'),
      '-D',
      data,
      '-U',
      'postgres',
      '-A',
      'trust',
      '-E',
      'UTF8',
    ]
    const made = spawnSync(command, [...args, '--locale=C', '--no-sync'], { cwd: folder, encoding: 'utf8' })
    if (made.status !== 0) throw new Error(`initdb failed: ${made.error?.message ?? made.stderr}`)
    const settings = {
      listen_addresses: '127.0.0.1',
      unix_socket_directories: folder,
      fsync: 'off',
      max_connections: 200,
      ...more,
    }
    return again(async () => {
      const port = await freePort()
      const child = await this.#start(join(bin, 'postgres'), ['-D', data, '-p', `${port}`, ...pairs(settings)], {
        ready: /ready to accept connections/,
        user,
        stopSignal: 'SIGINT',
      })
      return { pid: child.pid, port, url: `postgres://postgres@127.0.0.1:${port}/postgres` }
    })
  }

  /**
   * A RabbitMQ with one node and no plug-ins. @param at its `port`; lines of `settings`; and the `folder` of one that was ended, to start it
   * again with all that it kept @returns its process id, address and folder; and `ctl`, which runs `rabbitmqctl` on it
   */
  async rabbitmq(at = {}) {
    const program = rabbitmqServer() ?? missing('rabbitmq-server', 'RABBITMQ_URL')
    const user = isRoot && onPath('setpriv') ? 'rabbitmq' : undefined // files that root wrote it could not read again
    const port = at.port ?? (await freePort())
    const folder = at.folder ?? this.#sub(`rabbitmq-${port}`, user)
    const nodePort = await freePort()
    const daemonPort = await freePort()
    writeFileSync(join(folder, 'rabbitmq.conf'), `listeners.tcp.1 = 127.0.0.1:${port}\n${LOGS}${at.settings ?? ''}`)
    writeFileSync(join(folder, 'plugins'), '[].\n')
    if (user) spawnSync('chown', ['-R', user, folder])
    const env = {
      ...process.env,
      HOME: folder,
      LANG: 'C.UTF-8',
      RABBITMQ_NODENAME: `holdfast${port}@localhost`,
      RABBITMQ_CONFIG_FILE: join(folder, 'rabbitmq.conf'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, 'plugins'),
      RABBITMQ_MNESIA_BASE: folder,
      RABBITMQ_LOG_BASE: folder,
      RABBITMQ_PID_FILE: join(folder, 'pid'),
      RABBITMQ_DIST_PORT: `${nodePort}`,
      // Erlang's port for other nodes would listen on every address.
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}',
      ERL_EPMD_PORT: `${daemonPort}`,
      ERL_EPMD_ADDRESS: '127.0.0.1',
      RUNNING_UNDER_SYSTEMD: '1', // its script then becomes the broker; else the broker outlives the script
    }
    // Erlang's name daemon: RabbitMQ would start one that outlives it, this one is ours to end.
    const daemon = onPath('epmd') ?? missing('epmd', 'RABBITMQ_URL')
    const where = ['-port', `${daemonPort}`, '-address', '127.0.0.1', '-d']
    await this.#start(daemon, where, { ready: /epmd running/, user, env })
    const child = await this.#start(program, [], {
      ready: /startup complete|completed with/,
      user,
      env,
      cwd: folder,
      stopSignal: 'SIGKILL', // its own way takes seconds
    })
    const tool = join(dirname(program), 'rabbitmqctl')
    const ctl = (...args) => run([...as(user), tool, '-q', ...args], { env, cwd: folder })
    await ctl('eval', PATIENT).catch(() => {}) // of versions that have it otherwise
    return { pid: child.pid, port, folder, ctl, url: `amqp://guest:guest@127.0.0.1:${port}` }
  }

  /** Ends every server and removes what they wrote. */
  async stop() {
    this.stopped = true
    await Promise.all(
      [...this.#running].map(
        (child) =>
          new Promise((resolve) => {
            const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
            child.once('exit', () => {
              clearTimeout(late)
              resolve()
            })
            child.kill(child.stopSignal)
          }),
      ),
    )
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #sub(name, user) {
    const folder = join(this.#folder, name)
    mkdirSync(folder, { recursive: true })
    if (user) spawnSync('chown', [user, folder])
    return folder
  }

  async #start(program, args, { ready, user, env, cwd = this.#folder, stopSignal = 'SIGTERM' }) {
    // On Linux the kernel ends the server when this process dies, also by kill -9: nothing is left behind.
    const guarded = onPath('setpriv') ? ['setpriv', '--pdeathsig', 'KILL', ...as(user).slice(1)] : as(user)
    const [command, ...rest] = [...guarded, program, ...args]
    if (this.stopped) throw new Error(`${program}: told to stop before it was started`)
    const child = spawn(command, rest, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    child.stopSignal = stopSignal
    this.#running.add(child)
    child.once('exit', () => this.#running.delete(child))
    const name = `${basename(program)}-${child.pid}`
    let output = ''
    await new Promise((resolve, reject) => {
      const end = (why) => reject(new Error(`${program} ${why}:\n${output.slice(-10_000)}`))
      const late = setTimeout(() => end(`was not ready in ${READY_MS} ms`), READY_MS)
      let isReady = false
      const read = (chunk) => {
        output = (output + chunk).slice(-KEPT)
        this.output.set(name, output)
        if (isReady || !ready.test(output)) return
        isReady = true
        clearTimeout(late)
        resolve()
      }
      child.stdout.on('data', read)
      child.stderr.on('data', read)
      child.once('error', (error) => end(error.message))
      child.once('exit', (code, signal) => end(`ended (${code ?? signal}) before it was ready`))
    })
    return child
  }
}

/**
 * As newer versions have it. In RabbitMQ 3.10.8 two crashes of those that carry dead letters within 5 s, which a machine that stands still
 * for so long can cause, end their supervisor for good, and with it all queues that need it. See rabbitmq-server issue 16652.
 */
const PATIENT = `sys:replace_state(rabbit_fifo_dlx_sup,
  fun(S) when element(6, S) =:= 1 -> setelement(7, setelement(6, S, 100), 1); (S) -> S end).`

const SLOTS = 16_384

const isWhole = (info, nodes) =>
  info.includes('cluster_state:ok') &&
  info.includes(`cluster_known_nodes:${nodes}`) &&
  info.includes(`cluster_size:${nodes}`)

/** The reply of the Redis at `port` to one command, as it stands on the wire. */
function tell(port, command) {
  return new Promise((resolve, reject) => {
    const socket = createConnection(port, '127.0.0.1', () => socket.write(`${command}\r\n`))
    let reply = ''
    socket.setTimeout(READY_MS, () => socket.destroy(new Error(`no answer to ${command}`)))
    socket.once('error', reject)
    socket.on('data', (chunk) => {
      reply += chunk
      if (reply.startsWith('-')) return socket.destroy(new Error(`${command}: ${reply}`))
      const [, length] = /^\$(\d+)\r\n/.exec(reply) ?? []
      if (!reply.endsWith('\r\n') || (length && reply.length < Number(length))) return
      socket.end()
      resolve(reply)
    })
  })
}

/** What a program prints. @throws Error when it fails. */
function run([program, ...args], options) {
  return new Promise((resolve, reject) => {
    execFile(program, args, options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${args.join(' ')}: ${stderr || error.message}`))
      else resolve(stdout)
    })
  })
}

const as = (user) => (user ? ['setpriv', '--reuid', user, '--regid', user, '--clear-groups'] : [])
const flags = (prefix, settings) => Object.entries(settings).flatMap(([name, value]) => [prefix + name, `${value}`])
const pairs = (settings) => Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])

function missing(program, variable) {
  throw new Error(`${program} is not on this machine: run \`npm test\`, which installs it, or set ${variable}`)
}
