import { pathToFileURL } from 'node:url'
import { resolve } from 'node:path'
import { inspect } from 'node:util'
import { messageOf } from '../kernel/errors.js'
import { Repository, type At, type EventStore } from '../event-sourcing/index.js'
import { dateOf, fit, integerOf, quoted, UsageError, type Terminal } from './terminal.js'

/** The state of a stream at several moments, a row for each part of it, a column for each moment. */
export async function printStates(
  store: EventStore,
  stream: string,
  source: string,
  at: string | undefined,
  terminal: Terminal,
): Promise<void> {
  const dash = stream.indexOf('-')
  if (dash < 1) throw new UsageError(`no stream of a repository: expected category-id, got ${JSON.stringify(stream)}`)
  const id = stream.slice(dash + 1)
  const category = stream.slice(0, dash).replaceAll('%2D', '-').replaceAll('%25', '%')
  const repository = new Repository<unknown>(store, (await imported(source)) as never, { category })
  if (repository.stream(id) !== stream) throw new UsageError(`no stream of a repository: ${JSON.stringify(stream)}`)
  const info = await store.info(stream)
  if (!info) throw new Error(`there is no stream ${JSON.stringify(stream)}`)
  const moments = (at ?? [...new Set([Math.max(1, info.version - 1), info.version])].join(',')).split(',')
  const columns: (readonly [title: string, parts: ReadonlyMap<string, string>])[] = []
  for (const moment of moments) {
    // oxlint-disable-next-line no-await-in-loop -- few, and in order
    const { state, version } = await repository.load(id, atOf(moment.trim()))
    columns.push([titleOf(moment.trim(), version), partsOf(state)])
  }
  const names = [...new Set(columns.flatMap(([, parts]) => [...parts.keys()]))]
  const rows = names.map((name) => {
    const values = columns.map(([, parts]) => parts.get(name) ?? '')
    return [name, ...values.map((value, i) => (i > 0 && value !== values[i - 1] ? `* ${value}` : `  ${value}`))]
  })
  const table = [['', ...columns.map(([title]) => `  ${title}`)], ...rows]
  const widths = (table[0] as string[]).map((_, i) =>
    table.reduce((width, row) => Math.max(width, (row[i] as string).length), 0),
  )
  for (const row of table)
    terminal.out(
      fit(
        row
          .map((cell, i) => cell.padEnd(widths[i] as number))
          .join('  ')
          .trimEnd(),
        terminal,
      ),
    )
}

function atOf(moment: string): At {
  return /^\d+$/.test(moment) ? { version: integerOf('at', moment, 0) } : { asOf: dateOf('at', moment) }
}

const titleOf = (moment: string, version: number): string =>
  /^\d+$/.test(moment) ? `version ${version}` : `${moment} (version ${version})`

/** What `MODULE#NAME` exports. */
async function imported(source: string): Promise<unknown> {
  const hash = source.lastIndexOf('#')
  const [file, name] = hash < 0 ? [source, 'default'] : [source.slice(0, hash), source.slice(hash + 1)]
  let module: Record<string, unknown>
  try {
    module = (await import(pathToFileURL(resolve(file)).href)) as Record<string, unknown>
  } catch (cause) {
    throw new Error(`--state: can't import ${file}: ${messageOf(cause)}`, { cause })
  }
  const inner = (module['default'] ?? {}) as Record<string, unknown> // of CommonJS
  const found = module[name] ?? inner[name]
  if (typeof found === 'function' || (typeof found === 'object' && found !== null)) return found
  throw new UsageError(`--state: ${file} exports no aggregate class or decider ${JSON.stringify(name)}`)
}

/** A state taken apart: a text for each leaf, by its path. */
function partsOf(state: unknown): Map<string, string> {
  const parts = new Map<string, string>()
  const above: unknown[] = []
  const take = (part: unknown, path: string): void => {
    const isRecord = typeof part === 'object' && part !== null && Object.keys(part).length > 0
    if (!isRecord || part instanceof Date || ArrayBuffer.isView(part) || above.includes(part))
      return void parts.set(path || 'state', inspect(part, { breakLength: Infinity, depth: null }))
    above.push(part)
    for (const [name, value] of Object.entries(part)) {
      const key = /\p{Cc}/u.test(name) ? quoted(name) : name
      take(value, path === '' ? key : `${path}.${key}`)
    }
    above.pop()
  }
  take(state, '')
  return parts
}
