// The log, live: its newest events, newest first. What the shop sends is text here, as everywhere.
import { at, clock, count, isHeld, keep, linkTo, make, write } from './dom.js'

const KEPT = 24
const list = at('events')
const listeners = new Set()
let newest = [] // newest first
let source
let paused = false
let unseen = 0

/** Calls `fn` with the events that have come, oldest first; also while the list is paused. */
export function onEvents(fn) {
  listeners.add(fn)
}

function draw() {
  write(at('pause'), paused ? `Go on${unseen ? ` (${count.format(unseen)} new)` : ''}` : 'Pause')
  if (paused || isHeld(list)) return
  unseen = 0
  const build = ({ orderId, version, type, data, recordedAt }) =>
    make(
      'tr',
      { class: 'arrived' },
      make('td', { text: clock.format(new Date(recordedAt)), class: 'quiet' }),
      make('td', {}, linkTo(orderId, version)),
      make('td', { text: version, class: 'number' }),
      make('td', { text: type }),
      make('td', { text: data === '{}' ? '' : data, class: 'what', title: data }),
    )
  keep(
    list,
    newest,
    ({ position }) => String(position),
    build,
    () => {},
  )
}

function take(events) {
  // Positions that begin anew are another log's: the shop was started again, and had its events in memory.
  if (events.at(-1).position < (newest[0]?.position ?? 0)) newest = []
  newest = [...events.toReversed(), ...newest].slice(0, KEPT)
  unseen += events.length
  draw()
  for (const fn of listeners) fn(events)
}

/** A page that nobody sees does not listen: a browser has few connections to one shop. */
function listen() {
  source?.close()
  source = undefined
  if (document.hidden) return
  source = new EventSource(`/events/live?after=${newest[0]?.position ?? 0}`)
  source.addEventListener('message', ({ data }) => take(JSON.parse(data)))
}

at('pause').addEventListener('click', () => {
  paused = !paused
  unseen = 0
  draw()
})
for (const left of ['pointerleave', 'focusout']) list.addEventListener(left, () => setTimeout(draw))
document.addEventListener('visibilitychange', listen)
listen()
