// Orders and checkouts, the newest first.
import { at, count, euros, isHeld, keep, linkTo, make, pill, write } from './dom.js'

const marks = {
  none: ['–', 'no', 'not yet'],
  reserved: ['✓', 'yes', 'reserved'],
  received: ['✓', 'yes', 'paid'],
  released: ['↩', 'back', 'put back'],
  refunded: ['↩', 'back', 'refunded'],
}

function mark(cell, value) {
  const [sign, state, label] = marks[value]
  write(cell, sign)
  cell.dataset.state = state
  cell.title = label
  cell.setAttribute('aria-label', label)
}

export function drawOrders(orders, readModelFailed) {
  at('orders-failed').hidden = !readModelFailed
  if (isHeld(at('orders'))) return
  const build = ({ id, userId, what, cents }) => {
    const cells = [
      make('td', {}, linkTo(id)),
      make('td', { text: userId }),
      make('td', { text: what, class: 'what', title: what }),
      make('td', { text: euros.format(cents / 100), class: 'number' }),
      make('td', { class: 'mark', role: 'cell' }),
      make('td', { class: 'mark', role: 'cell' }),
      make('td', {}, make('span', { class: 'pill' })),
    ]
    return make('tr', { class: userId === 'you' ? 'arrived mine' : 'arrived' }, ...cells)
  }
  keep(
    at('orders'),
    orders,
    (order) => order.id,
    build,
    (row, { stock, payment, status, reason }) => {
      mark(row.children[4], stock)
      mark(row.children[5], payment)
      pill(row.children[6].firstChild, status, reason ? `${status}: ${reason.replaceAll('-', ' ')}` : status)
    },
  )
}

/** A saga can be asked how it stands; of a choreography nobody is in charge. */
function nameOf(orderId, kind) {
  const text = orderId.slice(-8)
  return kind === 'orchestrated' ? make('a', { text, href: `#${new URLSearchParams({ saga: orderId })}` }) : text
}

export function drawCheckouts({ counts, recent }) {
  const names = Object.keys(counts)
  keep(
    at('checkout-counts'),
    names,
    (name) => name,
    (name) => make('li', { text: name }, make('b')),
    (item, name) => {
      write(item.lastChild, count.format(counts[name]))
    },
  )
  if (isHeld(at('checkouts'))) return
  const build = ({ orderId, kind }) =>
    make(
      'li',
      {},
      make('code', { title: kind }, nameOf(orderId, kind)),
      make('div', { class: 'steps' }),
      make('span', { class: 'pill' }),
    )
  keep(
    at('checkouts'),
    recent,
    ({ orderId }) => orderId,
    build,
    (item, { steps, status }) => {
      keep(
        item.children[1],
        steps,
        ({ name }) => name,
        ({ name }) => make('span', { text: name }),
        (node, { state }) => {
          node.dataset.state = state
          node.title = state
        },
      )
      pill(item.children[2], status)
    },
  )
}
