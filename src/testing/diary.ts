import type { SagaStatus } from '../saga/journal.js'
import { mermaidText } from '../saga/mermaid.js'
import type { Transition } from '../saga/store.js'

/** Something that happened in a simulated run. */
export interface DiaryEntry {
  /** Virtual milliseconds since the run began. */
  readonly atMs: number
  /** From 1; each crash is followed by another. `undefined`: from outside. */
  readonly process: number | undefined
  readonly kind: 'write' | 'body' | 'publish' | 'crash' | 'outside'
  readonly text: string
}

/** What a write says, in a few words: `reserve done, charge started`. */
export function wordsOf({ record, status }: Pick<Transition, 'record' | 'status'>): string {
  const words = record.entries.map((entry) => {
    if ('path' in entry) return `${entry.path} ${entry.type}`
    if (entry.type === 'turned') return `turned back: ${entry.failure.error.message}`
    if (entry.type === 'published') return `${entry.count} published`
    return entry.type === 'operator' ? entry.entry.verb : entry.type
  })
  if (isEnd(status)) words.push(status)
  return words.join(', ') || status
}

/** Whether nothing moves the saga on but an operator. */
export const isEnd = (status: SagaStatus): boolean =>
  status === 'completed' || status === 'compensated' || status === 'parked'

/** One line per entry. */
export function storyOf(diary: readonly DiaryEntry[]): string {
  const width = Math.max(0, ...diary.map(({ atMs }) => String(atMs).length))
  return diary
    .map(({ atMs, process, kind, text }) => {
      const who = process === undefined ? 'outside  ' : `process ${process}`
      return `${String(atMs).padStart(width)} ms  ${who}  ${kind === 'crash' ? `✗ ${text}` : text}`
    })
    .join('\n')
}

/** A Mermaid sequence diagram: one line of life per process, and the journal. */
export function diagramOf(diary: readonly DiaryEntry[]): string {
  const processes = new Set(diary.flatMap(({ process }) => process ?? []))
  const lines = diary.map(({ process, kind, text: plain }) => {
    const text = mermaidText(plain)
    if (process === undefined) return `  Note over J: ${text}`
    if (kind === 'crash') return `  Note over P${process}: ${text}`
    return `  P${process}->>${kind === 'write' ? 'J' : `P${process}`}: ${text}`
  })
  const people = [...processes].map((process) => `  participant P${process} as process ${process}`)
  return ['sequenceDiagram', ...people, '  participant J as journal', ...lines].join('\n')
}
