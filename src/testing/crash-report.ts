import { messageOf } from '../kernel/errors.js'
import type { BrokenRun, CrashReport } from './explore-crashes.js'
import type { PlannedFailure } from './simulate.js'

const MOST_NAMED = 20

/** The report for people: a line per plan, then the first broken run in full and the others by name. */
export function reportText(saga: string, { runs, plans, broken }: Omit<CrashReport, 'text'>): string {
  const head = `saga '${saga}': ${runs} runs, ${broken.length === 0 ? 'all as they must be' : `${broken.length} BROKEN`}`
  const width = Math.max(...plans.map(({ failAt }) => planText(failAt).length))
  const lines = plans.map(({ failAt, points, ends, broken: bad }) => {
    const how = Object.entries(ends).map(([status, count]) => `${count} ${status}`)
    if (bad > 0) how.push(`${bad} BROKEN`)
    return `  ${planText(failAt).padEnd(width)}  ${String(points.length).padStart(4)} points: ${how.join(', ')}`
  })
  const [first, ...others] = broken
  if (!first) return [head, ...lines].join('\n')
  return [head, ...lines, '', ...brokenText(first), ...othersText(others)].join('\n')
}

function brokenText(run: BrokenRun): string[] {
  const { error, end, flowchart } = run
  return [
    `BROKEN: ${runText(run)}`,
    indent(messageOf(error)),
    '',
    '  what happened:',
    indent(end.story, 4),
    '',
    '  to see it again, with the options of the exploration:',
    indent(`await simulate(saga, input, { ...options, ${replayText(run)} })`, 4),
    '',
    '  as Mermaid (`end.mermaid` of that run is its sequence diagram):',
    indent(flowchart, 4),
  ]
}

function othersText(others: readonly BrokenRun[]): string[] {
  if (others.length === 0) return []
  const named = others.slice(0, MOST_NAMED).map((run) => `  ${runText(run)}: ${messageOf(run.error).split('\n')[0]}`)
  const left = others.length - named.length
  return ['', 'also broken:', ...named, ...(left > 0 ? [`  and ${left} more`] : [])]
}

const planText = (plan: PlannedFailure | undefined): string =>
  !plan ? 'nothing fails' : plan.how === 'unsure' ? `${plan.path} loses its answer` : `${plan.path} fails`

const runText = ({ failAt, crashAt }: BrokenRun): string =>
  `${planText(failAt)}, ${crashAt.length === 0 ? 'no crash' : crashAt.map((name) => `crash ${name}`).join(', ')}`

function replayText({ failAt, crashAt }: BrokenRun): string {
  const crash = `crashAt: ${JSON.stringify(crashAt)}`
  return failAt ? `failAt: { path: ${JSON.stringify(failAt.path)}, how: '${failAt.how}' }, ${crash}` : crash
}

const indent = (text: string, by = 2): string => text.replaceAll(/^(?=.)/gm, ' '.repeat(by))
