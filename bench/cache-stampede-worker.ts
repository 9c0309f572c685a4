import { setTimeout as sleep } from 'node:timers/promises'
import { loaders } from './cache-libraries.js'
import { CALLERS, LOAD_MS } from './cache-stampede.js'

// One of many processes on one Redis: for each key it is sent, it asks with many callers at once and tells how many loads it made.

const [name = '', port] = process.argv.slice(2)
const cache = loaders[name]!({ commands: Number(port), messages: Number(port) })

async function ask(key: string): Promise<number> {
  let loads = 0
  const load = async (): Promise<string> => {
    loads++
    await sleep(LOAD_MS)
    return 'value'
  }
  await Promise.all(Array.from({ length: CALLERS }, () => cache.getOrSet(key, load)))
  return loads
}

await ask(`warm ${process.pid}`) // connections stand, and what is asked is compiled
process.once('disconnect', () => process.exit()) // whoever asks has gone
process.on('message', (key: string) => void ask(key).then((loads) => process.send!(loads)))
process.send!('ready')
