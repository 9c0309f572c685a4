import { libraries, type Library } from './cache-libraries.js'
import { nowMs, type Watch } from './cache-faults.js'

// Another process on the same Redis: reads the key it is sent until it sees what was written, and tells when it last saw anything older.
// What it loads is the new value: the source changes before the cache.

async function watch(cache: Library, { key, value, limitMs }: Watch): Promise<number> {
  let old = 0
  for (const end = nowMs() + limitMs; nowMs() < end;) {
    const seen = await cache.getOrSet(key, async () => value)
    if (seen === value) break
    old = nowMs()
    await new Promise(setImmediate)
  }
  return old
}

const [name, commands, messages] = process.argv.slice(2)
const cache = libraries[name as keyof typeof libraries]({ commands: Number(commands), messages: Number(messages) })
process.once('disconnect', () => process.exit()) // whoever asks has gone
process.on('message', (job: Watch) => void watch(cache, job).then((old) => process.send!(old)))
process.send!('ready')
