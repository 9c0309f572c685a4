// A saga drawn from its nodes: what follows what is in their order, branches that run side by side are in their paths.

const BOX = { width: 124, height: 46, gapX: 30, gapY: 14, edge: 4 }

/** @returns a sequence of parts: a node each, or a block of branches, each a sequence itself */
function sequenceOf(nodes, depth = 0) {
  const parts = []
  for (const node of nodes) {
    const names = node.path.split('/')
    if (names.length === depth + 1) {
      parts.push({ node })
      continue
    }
    const [block, branch] = [names[depth], names[depth + 1]]
    let part = parts.find((it) => it.block === block)
    if (!part) parts.push((part = { block, branches: new Map() }))
    part.branches.set(branch, [...(part.branches.get(branch) ?? []), node])
  }
  return parts.map(({ node, branches }) =>
    node ? { node } : { branches: [...branches.values()].map((branch) => sequenceOf(branch, depth + 2)) },
  )
}

const sizeOf = (parts) => {
  const sizes = parts.map(({ node, branches }) => {
    if (node) return { columns: 1, rows: 1 }
    const all = branches.map(sizeOf)
    return { columns: Math.max(...all.map((s) => s.columns)), rows: all.reduce((sum, s) => sum + s.rows, 0) }
  })
  return {
    columns: sizes.reduce((sum, s) => sum + s.columns, 0),
    rows: Math.max(1, ...sizes.map((s) => s.rows)),
  }
}

/** Where each node stands, in columns and rows, and which follow which. */
function layOut(parts, column, row, before, found) {
  for (const part of parts) {
    if (part.node) {
      found.boxes.push({ node: part.node, column, row })
      for (const from of before) found.arrows.push({ from, to: found.boxes.at(-1) })
      before = [found.boxes.at(-1)]
      column++
      continue
    }
    let below = row
    const ends = []
    for (const branch of part.branches) {
      ends.push(...layOut(branch, column, below, before, found))
      below += sizeOf(branch).rows
    }
    before = ends
    column += sizeOf([part]).columns
  }
  return before
}

function svg(tag, { text, ...attributes }, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  if (text !== undefined) node.textContent = text
  node.append(...children)
  return node
}

const left = ({ column }) => BOX.edge + column * (BOX.width + BOX.gapX)
const top = ({ row }) => BOX.edge + row * (BOX.height + BOX.gapY)
const LONGEST = 16
const nameOf = (path) => {
  const name = path.split('/').at(-1).replaceAll('~1', '/').replaceAll('~0', '~')
  return name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name // the title has all of it
}
const stateOf = ({ status, attempt }) => (attempt > 1 ? `${status}, try ${attempt}` : status)

/** Where a saga is, by the state of its nodes: what comes first counts. */
const moving = [['stuck'], ['running', 'waiting', 'compensating'], ['failed', 'unknown']]

/** @returns the node that someone who looks wants to see; the last one when all is done */
function currentOf(nodes) {
  for (const states of moving) {
    const node = nodes.find(({ status }) => states.includes(status))
    if (node) return node
  }
  return nodes.findLast(({ status }) => status !== 'pending') ?? nodes[0]
}

function boxOf(box, current) {
  const { kind, path, status, error } = box.node
  const [x, y] = [left(box), top(box)]
  const why = error ? `: ${error.name}: ${error.message}` : ''
  const round = kind === 'wait' || kind === 'sleep' ? BOX.height / 2 : 8
  return svg(
    'g',
    { 'data-state': status, 'data-kind': kind, ...(box.node === current && { 'data-current': path }) },
    svg('title', { text: `${path}: ${status}${why}` }),
    svg('rect', { x, y, width: BOX.width, height: BOX.height, rx: round }),
    svg('text', { x: x + BOX.width / 2, y: y + 20, class: 'name', text: nameOf(path) }),
    svg('text', { x: x + BOX.width / 2, y: y + 36, text: stateOf(box.node) }),
  )
}

function arrowOf({ from, to }) {
  const [x1, y1] = [left(from) + BOX.width, top(from) + BOX.height / 2]
  const [x2, y2] = [left(to), top(to) + BOX.height / 2]
  const mid = (x1 + x2) / 2
  const line = `M${x1} ${y1}C${mid} ${y1} ${mid} ${y2} ${x2 - 3} ${y2}`
  return svg('path', { d: `${line}M${x2 - 8} ${y2 - 4}L${x2 - 2} ${y2}L${x2 - 8} ${y2 + 4}` })
}

/** Draws into `target` what `nodes` say. @returns the box of the node at which it is */
export function drawGraph(target, nodes) {
  const parts = sequenceOf(nodes)
  const { columns, rows } = sizeOf(parts)
  const found = { boxes: [], arrows: [] }
  layOut(parts, 0, 0, [], found)
  const width = 2 * BOX.edge + columns * BOX.width + (columns - 1) * BOX.gapX
  const height = 2 * BOX.edge + rows * BOX.height + (rows - 1) * BOX.gapY
  target.setAttribute('viewBox', `0 0 ${width} ${height}`)
  target.style.minWidth = `${width}px`
  target.style.maxWidth = `${width * 1.2}px`
  target.setAttribute('aria-label', nodes.map(({ path, status }) => `${path} ${status}`).join(', '))
  const current = currentOf(nodes)
  target.replaceChildren(...found.arrows.map(arrowOf), ...found.boxes.map((box) => boxOf(box, current)))
  return target.querySelector('[data-current]')
}
