// Small charts in SVG: the last minute, a value a second, the newest at the right edge.
const SVG = 'http://www.w3.org/2000/svg'

/** @returns the `i`th child of `svg`, made when it is not there */
function child(svg, i, tag) {
  return svg.children[i] ?? svg.appendChild(document.createElementNS(SVG, tag))
}

function points(values) {
  const top = Math.max(...values, 1)
  const step = 60 / (values.length - 1)
  return values.map((value, i) => `${(i * step).toFixed(2)},${(20 - (value / top) * 19).toFixed(2)}`)
}

/** A line, named for those who can't see it by its `unit` and last value. */
export function line(svg, values, unit) {
  child(svg, 0, 'path').setAttribute('d', `M${points(values).join('L')}`)
  svg.setAttribute('aria-label', `last minute: now ${values.at(-1)}, at most ${Math.max(...values)} ${unit}`)
}

/** A {@link line} with its area filled. */
export function area(svg, values, unit) {
  line(svg, values, unit)
  const fill = child(svg, 1, 'path')
  fill.setAttribute('class', 'area')
  fill.setAttribute('d', `M0,20L${points(values).join('L')}L60,20Z`)
}

/** A strip of the last 60 seconds. @param past `{ state, at }`, oldest first; each lasts until the next, the last until `now` */
export function timeline(svg, past, now) {
  const spans = past.map(({ state, at }, i) => ({
    state,
    from: Math.max(0, 60 - (now - at) / 1_000),
    to: 60 - (now - (past[i + 1]?.at ?? now)) / 1_000,
  }))
  const seen = spans.filter(({ to }) => to > 0)
  seen.forEach(({ state, from, to }, i) => {
    const rect = child(svg, i, 'rect')
    rect.dataset.state = state
    rect.setAttribute('x', from.toFixed(2))
    rect.setAttribute('width', Math.max(0.25, to - from).toFixed(2))
    rect.setAttribute('height', '8')
  })
  while (svg.children.length > seen.length) svg.lastChild.remove()
  svg.setAttribute('aria-label', `last minute: ${seen.map(({ state }) => state).join(', then ')}`)
}
