// Finds the programs that tests start: given by the environment, else where systems keep them. No dependencies.
import { accessSync, constants, existsSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const runnable = (path) => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** The path of the first of `names` that is on PATH, or `undefined`. */
export const onPath = (...names) => {
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(runnable)
}

/** The folder of PostgreSQL's `initdb` and `postgres`, newest version first, or `undefined`. `PG_BIN` names another. */
export const postgresBin = () => {
  if (process.env.PG_BIN) return process.env.PG_BIN
  const kept = ['/usr/lib/postgresql', '/opt/homebrew/opt', '/usr/local/opt'].filter(existsSync).flatMap((root) =>
    readdirSync(root)
      .filter((name) => /^(postgresql(@\d+)?|\d+)$/.test(name))
      .toSorted((a, b) => Number(b.replace(/\D/g, '')) - Number(a.replace(/\D/g, '')))
      .map((name) => join(root, name, 'bin')),
  )
  const folders = [...kept, ...(process.env.PATH ?? '').split(delimiter).filter(Boolean)]
  return folders.find((folder) => runnable(join(folder, 'initdb')) && runnable(join(folder, 'postgres')))
}

/** The path of redis-server (or Valkey's), or `undefined`. */
export const redisServer = () => onPath('redis-server', 'valkey-server')

/** The path of RabbitMQ's own start script (the one on PATH may insist on another user), or `undefined`. */
export const rabbitmqServer = () =>
  ['/usr/lib/rabbitmq/bin', '/opt/homebrew/opt/rabbitmq/sbin', '/usr/local/opt/rabbitmq/sbin']
    .map((folder) => join(folder, 'rabbitmq-server'))
    .find(runnable) ?? onPath('rabbitmq-server')

/** The path of Chromium or Chrome, or `undefined`. `CHROMIUM_PATH` names another. */
export const chromium = () =>
  process.env.CHROMIUM_PATH ??
  onPath('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable') ??
  [
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
    '/Applications/Chromium.app/Contents/MacOS/Chromium',
  ].find(runnable)
