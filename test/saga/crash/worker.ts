import { writeSync } from 'node:fs'
import pg from 'pg'
import { participate, type Job, type News } from './participant.js'
import { storeNamed } from './stores.js'

// One process of the crash matrix: waits for its job, and runs it until it is killed, by itself at a certain point or by others.

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

process.once('message', (job: Job) => {
  void (async () => {
    const effects = new pg.Client({ connectionString: job.urls.postgres })
    effects.on('error', () => {})
    await effects.connect()
    await participate(job, storeNamed(job.store), effects, tell, (what) => {
      tell({ type: 'dies', what })
      process.kill(process.pid, 'SIGKILL')
    })
  })().catch((error: unknown) => {
    tell({ type: 'failed', error: String(error) })
    process.exit(1)
  })
})
process.once('disconnect', () => process.exit(0)) // nobody is there to be told
