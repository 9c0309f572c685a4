// One order at any of its versions. Which one is in the address, #order=…&version=…, so it can be linked to and kept.
import { at, clock, euros, keep, make, write } from './dom.js'
import { onEvents } from './events.js'

const slider = at('version')
let shown // { id, versions }, as the shop tells
let asking // the id that was asked for last, until the answer is there
let stale = false

const fields = Object.entries({
  status: ({ status }) => status,
  items: ({ items }) => items?.map(({ sku, quantity }) => `${quantity} × ${sku}`).join(', '),
  total: ({ cents }) => cents && euros.format(cents / 100),
  'ship to': ({ shipTo }) => shipTo,
  user: ({ userId }) => userId,
  checkout: ({ checkout }) => checkout,
  stock: ({ stock }) => stock,
  payment: ({ payment }) => payment,
  parcel: ({ tracking }) => tracking,
  'cancel asked': ({ cancelRequested }) => (cancelRequested === '' ? 'yes' : cancelRequested),
  'cancelled for': ({ reason }) => reason,
}).map(([name, of]) => ({ name, of: (state) => of(state) ?? '' }))

function inAddress() {
  const { order, version } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)))
  return { order, version: Number(version) || Infinity }
}

/** @returns where the slider stands among the versions, from 0 */
const place = () => Number(slider.value) - 1

function draw() {
  const { versions } = shown
  const { version, type } = versions[place()]
  const last = versions.at(-1).version
  slider.setAttribute('aria-valuetext', `version ${version} of ${last}: ${type}`)
  write(at('version-now'), `${version} of ${last}`)
  drawEvents(versions)
  drawState(versions[place()].state, versions[place() - 1]?.state)
}

function drawEvents(versions) {
  const began = new Date(versions[0].recordedAt)
  const build = ({ version, type, recordedAt }) => {
    const button = make('button', { type: 'button' }, make('span', { text: version }), make('b', { text: type }))
    button.addEventListener('click', () => goTo(version))
    const then = new Date(recordedAt)
    const text = version === versions[0].version ? clock.format(then) : `+${then - began} ms`
    return make('li', {}, button, make('time', { text, datetime: recordedAt, title: recordedAt }))
  }
  const { version: current, data, recordedAt } = versions[place()]
  keep(
    at('versions'),
    versions,
    ({ version }) => `${shown.id} ${version}`,
    build,
    ({ firstChild: button }, { version }) => {
      if (version === current) button.setAttribute('aria-current', 'step')
      else button.removeAttribute('aria-current')
    },
  )
  const before = versions[place() - 1]
  const since = before ? `, ${new Date(recordedAt) - new Date(before.recordedAt)} ms after the one before` : ''
  write(at('version-time'), `${clock.format(new Date(recordedAt))}${since}`)
  write(at('version-data'), JSON.stringify(data))
}

function drawState(state, before) {
  const compare = at('compare').checked
  keep(
    at('state'),
    fields,
    ({ name }) => name,
    ({ name }) => make('div', {}, make('dt', { text: name }), make('dd')),
    (row, { of }) => {
      const [now, was] = [of(state), before ? of(before) : '']
      const changed = compare && now !== was
      row.toggleAttribute('data-changed', changed)
      row.toggleAttribute('data-empty', now === '')
      if (!changed) return row.lastChild.replaceChildren(now || '–')
      const marked = was === '' ? [] : [make('del', { text: was }), ' ']
      row.lastChild.replaceChildren(...marked, make('ins', { text: now }))
    },
  )
}

/** Moves the slider, and the address with it; who looks at the last version sees the next when it comes. */
function goTo(version) {
  const { id, versions } = shown
  slider.max = versions.length
  slider.value = Math.min(version, versions.length)
  const address = new URLSearchParams({ order: id, ...(slider.value < versions.length && { version: slider.value }) })
  // an address that somebody has just chosen is not overwritten
  if (!new URLSearchParams(location.hash.slice(1)).has('saga')) history.replaceState(null, '', `#${address}`)
  draw()
}

/** @returns the order with all its versions, or the reason why not, for people */
async function ask(id) {
  try {
    const response = await fetch(`/orders/${encodeURIComponent(id)}/versions`, { headers: { 'x-user-id': 'page' } })
    const body = await response.json()
    return response.ok ? { order: body } : { problem: body.detail ?? body.title }
  } catch {
    return { problem: 'The shop does not answer.' }
  }
}

async function load(id) {
  asking = id
  stale = false
  const { order, problem = '' } = await ask(id)
  if (asking !== id) return // another one was chosen meanwhile
  asking = undefined
  at('travel-error').hidden = Boolean(order)
  write(at('travel-error'), problem)
  if (!order) {
    if (shown?.id === id) return // it was only to be looked at again
    shown = undefined
    at('travel').hidden = true
    return
  }
  shown = order
  at('travel-hint').hidden = true
  at('travel').hidden = false
  write(at('travel-order'), id.slice(-8))
  at('travel-order').title = id
  at('travel-json').href = `/orders/${encodeURIComponent(id)}/history`
  goTo(inAddress().version)
  if (stale) await load(id)
}

async function follow() {
  const { order, version } = inAddress()
  if (!order) return
  if (shown?.id === order) goTo(version)
  else await load(order)
  if (shown) slider.focus() // the arrow keys travel from here
}

slider.addEventListener('input', () => goTo(Number(slider.value)))
at('compare').addEventListener('change', () => draw())
addEventListener('hashchange', () => void follow())
onEvents((events) => {
  const known = shown?.versions.at(-1).version
  if (!events.some(({ orderId, version }) => orderId === shown?.id && version > known)) return
  if (asking) stale = true
  else void load(shown.id)
})
void follow()
