import { cpus } from 'node:os'
import { Servers } from '../../../scripts/servers.mjs'
import { bundleFile } from '../../support/bundle-file.js'
import { add, casesOf, noSums, runCases, runPauses } from './matrix.js'
import { Processes } from './processes.js'
import { Ground, type Outcome } from './run.js'
import { SCENARIOS } from './saga.js'
import { STORES } from './stores.js'

// The whole crash matrix: every point x every scenario x several seeds on every store, and the pauses: `npm run test:crash`.
// CRASH_SEEDS=5: more seeds; CRASH_STORE=PostgreSQL: one store; CRASH_ONLY='fail b': some scenarios; CRASH_EVERY=4: each seed a fourth
// of the points, another one each; CRASH_MINUTES=10: no longer than that for each store.

const {
  CRASH_SEEDS: seeds = '3',
  CRASH_STORE: only,
  CRASH_ONLY: part,
  CRASH_WIDTH: given,
  CRASH_MINUTES: minutes,
  CRASH_EVERY = '1',
} = process.env
const every = Number(CRASH_EVERY)
const width = Number(given ?? Math.max(4, cpus().length * 2))
const say = (text: string): void => void process.stderr.write(text)

const servers = new Servers()
const [postgres, redis] = await Promise.all([servers.postgres(), servers.redis()])
const urls = { postgres: postgres.url, redis: redis.url }
const { path, remove } = await bundleFile('test/saga/crash/worker.ts', true)
const processes = new Processes(path, urls, width)
const rows: (string | number)[][] = []
const wrong: string[] = []

for (const kind of STORES.filter(({ name }) => name === (only ?? name))) {
  // oxlint-disable no-await-in-loop -- one after the other
  const ground = new Ground(kind, urls, processes)
  await ground.open()
  const until = performance.now() + Number(minutes ?? Infinity) * 60_000
  const byScenario = new Map(SCENARIOS.filter((name) => name.includes(part ?? '')).map((name) => [name, noSums()]))
  for (let seed = 1; seed <= Number(seeds); seed++)
    for (const [scenario, sums] of byScenario) {
      if (performance.now() > until) break
      const [began, before] = [performance.now(), sums.runs]
      const tell = (end: string): void =>
        say(
          `\r${kind.name}, seed ${seed}: ${scenario}, ${sums.runs - before} runs, ${seconds(began)} s, ` +
            `${sums.wrong.length + sums.late.length} wrong ${end}`,
        )
      const [undisturbed, cases] = await casesOf(ground, scenario, seed)
      add(sums, undisturbed)
      const some = cases.filter((_, i) => i % every === seed % every)
      const done = (outcome: Outcome): void => {
        add(sums, outcome)
        if (sums.runs % 10 === 0) tell('')
      }
      await runCases(ground, some, width, done)
      const inBodies = some.filter(({ points: [point] }) => point?.kind === 'body')
      await runCases(ground, inBodies, width, done, 'runStopped')
      tell('\n')
    }
  for (const [scenario, sums] of byScenario) {
    const { runs, deaths, takeovers, statuses, slowestMs, late } = sums
    rows.push([
      kind.name,
      scenario,
      runs,
      deaths,
      takeovers,
      ends(statuses),
      Math.round(slowestMs),
      late.length,
      sums.wrong.length,
    ])
    wrong.push(...sums.wrong, ...sums.late)
  }
  for (const orchestrators of part ? [] : [2, 3, 4])
    for (let seed = 1; seed <= Number(seeds); seed++) {
      const began = performance.now()
      const sums = await runPauses(ground, { orchestrators, sagas: 26, forMs: 8_000, seed })
      const name = `${orchestrators} orchestrators, ${sums.pauses} pauses, ${sums.refused} refused`
      say(`${kind.name}: ${name}, ${sums.runs} sagas, ${seconds(began)} s, ${sums.wrong.length} wrong\n`)
      rows.push([
        kind.name,
        name,
        sums.runs,
        sums.deaths,
        sums.takeovers,
        ends(sums.statuses),
        '',
        '',
        sums.wrong.length,
      ])
      wrong.push(...sums.wrong)
    }
  await ground.close()
  // oxlint-enable no-await-in-loop
}
processes.close()
remove()
await servers.stop()

const titles = ['store', 'scenario', 'runs', 'killed', 'taken over', 'ends', 'slowest ms', 'late', 'wrong']
for (const row of [titles, titles.map(() => '---'), ...rows]) console.log(`| ${row.join(' | ')} |`)
const total = (column: number): number => rows.reduce((sum, row) => sum + Number(row[column]), 0)
console.log(`\n${total(2)} runs, ${total(3)} processes killed, ${total(4)} sagas taken over, ${wrong.length} wrong`)
for (const what of wrong.slice(0, 50)) console.log(what)
process.exit(wrong.length === 0 ? 0 : 1)

function seconds(since: number): number {
  return Math.round((performance.now() - since) / 1_000)
}

function ends(statuses: Readonly<Record<string, number>>): string {
  return Object.entries(statuses)
    .map(([status, count]) => `${count} ${status}`)
    .join(', ')
}
