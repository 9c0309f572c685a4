import { writeSync } from 'node:fs'
import pg from 'pg'
import type { SagaOrchestrator } from '../../../src/saga/index.js'
import { participate, type News, type ToWorker } from './participant.js'
import { STORES, type Urls } from './stores.js'

// One process of the crash matrix: runs its jobs until it is killed, by itself at a certain point or by others.

/** In the pipe before the next instruction: what was told is known, however this process ends. */
const tell = (news: News): void => {
  const bytes = Buffer.from(`${JSON.stringify(news)}\n`)
  for (let at = 0; at < bytes.length;) {
    try {
      at += writeSync(3, bytes, at)
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'EAGAIN') throw error
    }
  }
}
const die = (what: string): void => {
  tell({ type: 'dies', what })
  process.kill(process.pid, 'SIGKILL')
}
const stop = (): void => {
  tell({ type: 'stops' })
  process.kill(process.pid, 'SIGSTOP')
}
const fail = (error: unknown): void => {
  tell({ type: 'failed', error: String(error) })
  process.exit(1)
}

process.once('disconnect', () => process.exit(0)) // nobody is there to be told
const urls = JSON.parse(process.argv[2]!) as Urls
const effects = new pg.Pool({ connectionString: urls.postgres, max: 2 })
effects.on('error', () => {})
await effects.query('select 1')
const servers = new Map(await Promise.all(STORES.map(async (kind) => [kind.name, await kind.connect(urls)] as const)))
let running: SagaOrchestrator | undefined
process.on('message', (message: ToWorker) => {
  if (message !== 'stop') {
    const begun = participate(message, servers.get(message.store)!, effects, { tell, die, stop })
    running = begun.orchestrator
    begun.done.catch(fail)
  } else
    Promise.resolve(running?.close()).then(() => {
      running = undefined
      tell({ type: 'stopped' })
    }, fail)
})
tell({ type: 'ready' })
