import type { SagaBranch, SagaDefinition, SagaNode } from './definition.js'
import type { SagaView } from './view.js'

const STYLES: Record<string, string> = {
  done: 'fill:#d3f9d8,stroke:#2b8a3e',
  running: 'fill:#d0ebff,stroke:#1864ab',
  waiting: 'fill:#fff3bf,stroke:#e67700',
  failed: 'fill:#ffe3e3,stroke:#c92a2a',
  compensated: 'fill:#f1f3f5,stroke:#495057,stroke-dasharray:4',
}

/** How each status is shown. One that is missing is not coloured. */
const LOOKS: Record<string, string> = {
  done: 'done',
  skipped: 'compensated',
  running: 'running',
  compensating: 'running',
  waiting: 'waiting',
  failed: 'failed',
  unknown: 'failed',
  stuck: 'failed',
  compensated: 'compensated',
}

/**
 * A Mermaid flowchart of a definition; with `view`, coloured by how far that saga is. Pauses and waits are rounded, the pivot
 * is a rhombus.
 * @param view as `orchestrator.get(id)` gave it
 */
export function toMermaid(definition: SagaDefinition, view?: SagaView): string {
  return new Chart(view).draw(definition)
}

class Chart {
  readonly #lines: string[] = []
  readonly #statuses: ReadonlyMap<string, string>
  readonly #used = new Set<string>()
  #count = 0

  constructor(view: SagaView | undefined) {
    this.#statuses = new Map(view?.nodes.map(({ path, status }) => [path, status]))
  }

  draw({ nodes }: SagaDefinition): string {
    let from = [this.#add('((start))')]
    from = this.#sequence(nodes, from)
    this.#join(from, this.#add('((end))'))
    const styles = [...this.#used].map((look) => `  classDef ${look} ${STYLES[look]}`)
    return ['flowchart TD', ...this.#lines, ...styles].join('\n')
  }

  /** @returns the ends of the sequence */
  #sequence(nodes: readonly SagaNode[], from: readonly string[]): string[] {
    let ends = [...from]
    for (const node of nodes) {
      if (node.kind === 'parallel') ends = this.#branches(node.name, node.branches, ends)
      else {
        const id = this.#add(this.#shape(node), node.path)
        this.#join(ends, id)
        ends = [id]
      }
    }
    return ends
  }

  #branches(name: string, branches: readonly SagaBranch[], from: readonly string[]): string[] {
    const fork = this.#add(`[/${label(name)}/]`)
    this.#join(from, fork)
    return branches.flatMap((branch) => {
      const head = this.#add(`>${label(branch.name)}]`)
      this.#join([fork], head)
      return this.#sequence(branch.nodes, [head])
    })
  }

  #shape(node: Exclude<SagaNode, { kind: 'parallel' }>): string {
    const status = this.#statuses.get(node.path)
    const suffix = status === undefined || status === 'pending' ? '' : `: ${status}`
    switch (node.kind) {
      case 'step':
        return `[${label(node.name + suffix)}]`
      case 'transaction':
        return `[(${label(node.name + suffix)})]`
      case 'pivot':
        return `{${label(node.name + suffix)}}`
      case 'wait':
        return `([${label(`${node.name}: waits for ${node.signal.name}${suffix}`)}])`
      case 'sleep':
        return `([${label(`${node.name}: ${node.ms} ms${suffix}`)}])`
    }
  }

  #add(shape: string, path?: string): string {
    const id = `n${this.#count++}`
    const look = LOOKS[(path !== undefined && this.#statuses.get(path)) || '']
    if (look) this.#used.add(look)
    this.#lines.push(`  ${id}${shape}${look ? `:::${look}` : ''}`)
    return id
  }

  #join(from: readonly string[], to: string): void {
    for (const id of from) this.#lines.push(`  ${id} --> ${to}`)
  }
}

/** Text that can hold nothing Mermaid takes for its own. */
export const mermaidText = (text: string): string =>
  text.replaceAll(/[^\p{L}\p{N} .,:_/-]/gu, (character) => `#${character.codePointAt(0)};`)

const label = (text: string): string => `"${mermaidText(text)}"`
