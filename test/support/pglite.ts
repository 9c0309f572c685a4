import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { PGlite } from '@electric-sql/pglite'

/*
 * Of all that PGlite does at its start, making a new database takes nine tenths. So that is done once, and kept for this
 * version of it; all others begin with a copy.
 */
const modules = new URL('../../node_modules/', import.meta.url)
const PACKAGE = new URL('@electric-sql/pglite/package.json', modules)
const { version } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { version: string }
const KEPT = new URL(`.cache/holdfast/pglite-${version}.tar`, modules)

/** A PGlite in memory with nothing in it. Whoever opens it closes it. */
export async function openPGlite(): Promise<PGlite> {
  const kept = read()
  if (kept) return PGlite.create({ loadDataDir: kept })
  const made = await PGlite.create()
  const bytes = await (await made.dumpDataDir('none')).arrayBuffer()
  const part = new URL(`${KEPT.href}.${process.pid}`)
  mkdirSync(new URL('.', KEPT), { recursive: true })
  writeFileSync(part, Buffer.from(bytes))
  renameSync(part, KEPT) // whole or not at all: others read it meanwhile
  return made
}

function read(): Blob | undefined {
  try {
    return new Blob([readFileSync(KEPT)])
  } catch {
    return undefined
  }
}
