import { quantile, ROUNDS, type Survey } from './harness.js'

/** One way to take messages. */
export interface Way {
  readonly name: string
  /** So many wait. */
  fill(count: number): Promise<unknown>
  /** Until they are handled. @returns ends the taking, which is not measured */
  take(count: number): Promise<() => Promise<unknown>>
}

/** How fast so many messages that wait already are handled; each of the others beside the first. */
export function consumed(title: string, count: number, ways: () => Promise<readonly Way[]>, rate: number): Survey {
  const survey = async (): ReturnType<Survey['survey']> => {
    const all = await ways()
    const perSecond = new Map(all.map(({ name }) => [name, [] as number[]]))
    for (let round = -1; round < ROUNDS; round++) {
      for (const { name, fill, take } of all) {
        // oxlint-disable no-await-in-loop -- one after the other
        await fill(count)
        const start = performance.now()
        const end = await take(count)
        const ms = performance.now() - start
        await end()
        // oxlint-enable no-await-in-loop
        if (round >= 0) perSecond.get(name)?.push((count * 1_000) / ms) // round -1 warms up
      }
    }
    const of = (name: string, q = 0.5): number => quantile(perSecond.get(name) ?? [], q)
    const [floor, ...others] = all.map(({ name }) => name) as [string, ...string[]]
    const shown = (n: number): string => Math.round(n).toLocaleString('en-US')
    return {
      rows: [floor, ...others].map((name) => [
        name,
        shown(of(name)),
        `${shown(of(name, 0))} – ${shown(of(name, 1))}`,
        (of(name) / of(floor)).toFixed(2),
      ]),
      targets: others.map((name) => ({
        goal: `${name} at least ${rate} × as often as ${floor}`,
        isMet: of(name) / of(floor) >= rate,
        shown: `${(of(name) / of(floor)).toFixed(2)} ×`,
      })),
    }
  }
  return { title, columns: ['per second', 'lowest – highest', 'ratio'], survey }
}
