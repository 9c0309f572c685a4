// What the page is made of.

export const at = (id) => document.getElementById(id)
export const count = new Intl.NumberFormat('en')
export const euros = new Intl.NumberFormat('en', { style: 'currency', currency: 'EUR' })
export const clock = new Intl.DateTimeFormat('en', { timeStyle: 'medium', hourCycle: 'h23' })

/** Writes only what changed, so that screen readers and selections are left alone. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text
}

export function make(tag, { text, ...attributes } = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  if (text !== undefined) node.textContent = text
  node.append(...children)
  return node
}

/** A link that shows an order in the panel below, `version` of it if one is given. */
export function linkTo(orderId, version) {
  const address = new URLSearchParams({ order: orderId, ...(version && { version }) })
  return make('a', { text: orderId.slice(-8), href: `#${address}`, title: `${orderId}, version by version` })
}

/** Whether someone points at a list or is in it: what moves can't be clicked, so it holds still. */
export const isHeld = (list) =>
  (list.matches(':hover') && matchMedia('(hover: hover)').matches) || list.matches(':focus-within')

export function pill(node, state, text = state) {
  node.dataset.state = state
  write(node, text)
}

/** Rows by id: those that stay are kept as they are, new ones are made, old ones go. */
export function keep(list, items, idOf, build, update) {
  const known = new Map([...list.children].map((node) => [node.dataset.id, node]))
  const rows = items.map((item) => {
    const id = idOf(item)
    const row = known.get(id) ?? build(item)
    row.dataset.id = id
    known.delete(id)
    update(row, item)
    return row
  })
  for (const row of known.values()) row.remove()
  rows.forEach((row, i) => list.children[i] === row || list.insertBefore(row, list.children[i] ?? null))
}
