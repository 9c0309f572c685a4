// One saga as it stands, drawn while it runs; and what can be done about one that is parked.
import { at, clock, keep, make, pill, write } from './dom.js'
import { drawGraph } from './saga-graph.js'

const LOOK_MS = 500
let shown // the saga's id
let drawn = '' // what the graph shows
let seen = '' // at which node of which saga it was

const addressed = () => new URLSearchParams(location.hash.slice(1)).get('saga') ?? undefined
const linkTo = (id) => make('a', { text: id.slice(-8), href: `#${new URLSearchParams({ saga: id })}`, title: id })

/** Sagas that wait for somebody. */
export function drawParked(parked) {
  at('parked-none').hidden = parked.length > 0
  keep(
    at('parked'),
    parked,
    (id) => id,
    (id) => make('li', {}, linkTo(id)),
    (item, id) => {
      if (id === shown) item.firstChild.setAttribute('aria-current', 'true')
      else item.firstChild.removeAttribute('aria-current')
    },
  )
}

function draw({ id, name, version, status, nodes, failure, blocked, history }) {
  at('saga-hint').hidden = true
  at('saga').hidden = false
  write(at('saga-id'), id.slice(-8))
  at('saga-id').title = `${name} ${version}, ${id}`
  pill(at('saga-status'), status)
  const now = JSON.stringify(nodes)
  if (drawn !== now) bringIntoSight(id, drawGraph(at('saga-graph'), nodes))
  drawn = now
  const where = failure?.path ? `${failure.path}: ` : ''
  write(at('saga-failure'), failure ? `Turned back. ${where}${failure.error.name}: ${failure.error.message}` : '')
  const errors = nodes.filter(({ path }) => blocked.includes(path))
  keep(
    at('saga-blocked'),
    errors,
    ({ path }) => path,
    ({ path }) =>
      make(
        'li',
        {},
        make('span'),
        orderButton('Skip', { verb: 'skip', path }),
        orderButton('Resolve', { verb: 'resolve', path }),
      ),
    ({ firstChild }, { path, error }) => {
      write(firstChild, error ? `${path}: ${error.name}: ${error.message}` : path)
    },
  )
  at('saga-orders').hidden = status !== 'parked' && status !== 'compensated'
  at('saga-retry').hidden = status !== 'parked'
  at('saga-why').parentNode.hidden = at('saga-orders').hidden
  offerRedrive(nodes)
  keep(
    at('saga-history'),
    history,
    ({ at: when, verb, who }) => `${when} ${verb} ${who}`,
    ({ at: when, verb, path, who, why, applied }) => {
      const what = `${clock.format(when)} ${verb}${path ? ` ${path}` : ''} by ${who}`
      return make('li', { text: `${what}${applied ? '' : ' (did not fit)'}${why ? `: ${why}` : ''}` })
    },
    () => {},
  )
}

/** A saga can go forward again from where all before is done; what is before a done pivot is not done twice. */
function offerRedrive(nodes) {
  const isDone = ({ status }) => status === 'done' || status === 'skipped'
  const tops = [...new Set(nodes.map(({ path }) => path.split('/')[0]))]
  const open = tops.findIndex((top) => !nodes.filter(({ path }) => path.split('/')[0] === top).every(isDone))
  const pivot = nodes.find(({ kind, status }) => kind === 'pivot' && status === 'done')
  const fit = tops.slice(tops.indexOf(pivot?.path) + 1, open + 1)
  const from = at('saga-from')
  if ([...from.options].map(({ value }) => value).join('\n') === fit.join('\n')) return
  from.replaceChildren(...fit.map((path) => make('option', { text: path, value: path })))
  from.value = fit.at(-1) ?? ''
}

/** In a narrow window the graph is scrolled to where the saga is, when that has changed; then it is left to the reader. */
function bringIntoSight(id, box) {
  const where = JSON.stringify([id, box?.dataset.current])
  if (!box || where === seen) return
  seen = where
  const frame = at('saga-graph').parentNode
  const [inner, outer] = [box.getBoundingClientRect(), frame.getBoundingClientRect()]
  frame.scrollLeft += inner.left + inner.width / 2 - (outer.left + outer.width / 2)
}

function orderButton(text, order) {
  const button = make('button', { type: 'button', text, 'aria-label': `${text} ${order.path}` })
  button.addEventListener('click', () => void give(order))
  return button
}

async function give(order) {
  const why = at('saga-why').value
  const headers = { 'content-type': 'application/json', 'x-user-id': 'you' }
  let problem = ''
  try {
    const body = JSON.stringify({ ...order, why })
    const response = await fetch(`/sagas/${encodeURIComponent(shown)}/orders`, { method: 'POST', headers, body })
    if (response.ok) at('saga-why').value = '' // it was about this one, not about the next
    else problem = (await response.json()).detail
  } catch {
    problem = 'The shop does not answer.'
  }
  say(problem)
  void look()
}

function say(problem) {
  at('saga-error').hidden = problem === ''
  write(at('saga-error'), problem)
}

async function look() {
  const id = shown
  if (!id) return
  try {
    const response = await fetch(`/sagas/${encodeURIComponent(id)}`)
    const body = await response.json()
    if (id !== shown) return // another one was chosen meanwhile
    if (response.ok) draw(body)
    else {
      at('saga').hidden = true
      say(body.detail)
      shown = undefined
    }
  } catch {
    // the page says elsewhere that the shop is closed
  }
}

function follow() {
  const id = addressed()
  if (!id || id === shown) return
  shown = id
  say('')
  void look()
}

at('saga-retry').addEventListener('click', () => void give({ verb: 'retry' }))
at('saga-redrive').addEventListener('click', () => void give({ verb: 'redrive', path: at('saga-from').value }))
addEventListener('hashchange', follow)
setInterval(() => document.visibilityState === 'visible' && void look(), LOOK_MS)
follow()
