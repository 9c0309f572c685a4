// What the visitor can do: flip switches, place an order, copy the commands.
import { at, write } from './dom.js'

const form = at('switches')
let touchedAt = 0 // what the user has just set is not overwritten by a snapshot that was on its way

export function drawSwitches({ payment, stock, broken, checkout, load, ordersPerSecond }) {
  if (performance.now() - touchedAt < 800) return
  const { elements } = form
  elements.payment.value = payment
  elements.stock.value = stock
  elements.broken.value = broken
  elements.checkout.value = checkout
  elements.load.checked = load
  elements.ordersPerSecond.value = ordersPerSecond
  write(at('rate-wanted'), `${ordersPerSecond} orders/s`)
}

async function flip({ target }) {
  touchedAt = performance.now()
  const { name, type, checked, value } = target
  const wanted = type === 'checkbox' ? checked : type === 'range' ? Number(value) : value
  const { ok, body } = await send('PATCH', '/switches', { [name]: wanted })
  at('switch-error').hidden = ok
  write(at('switch-error'), ok ? '' : body.detail)
}

async function place() {
  const order = { items: [{ sku: 'rope', quantity: 1 }], shipTo: 'Chamonix' }
  const { ok, body } = await send('POST', '/orders', order, { 'x-user-id': 'you' })
  write(at('placed'), ok ? `Placed: ${body.id.slice(-8)}.` : body.detail)
}

async function copy() {
  await navigator.clipboard.writeText(at('curl').textContent)
  write(at('copy'), 'Copied')
  setTimeout(() => write(at('copy'), 'Copy'), 1_500)
}

/** Sends JSON, and gives back what came: a problem has a `detail`. */
async function send(method, path, payload, headers = {}) {
  try {
    const request = {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(payload),
    }
    const response = await fetch(path, request)
    return { ok: response.ok, body: await response.json() }
  } catch {
    return { ok: false, body: { detail: 'The shop does not answer.' } }
  }
}

form.addEventListener('change', (event) => void flip(event))
form.addEventListener('submit', (event) => event.preventDefault())
form.elements.ordersPerSecond.addEventListener('input', ({ target }) => {
  touchedAt = performance.now()
  write(at('rate-wanted'), `${target.value} orders/s`)
})

at('place').addEventListener('click', () => void place())
at('copy').addEventListener('click', () => void copy())

const here = location.origin
write(
  at('curl'),
  `curl -i ${here}/orders -H 'X-User-Id: you' -H 'Content-Type: application/json' \\
     -d '{"items":[{"sku":"rope","quantity":1},{"sku":"carabiner","quantity":6}],"shipTo":"Chamonix"}'
curl '${here}/orders?limit=3'
curl -X PATCH ${here}/switches -H 'Content-Type: application/json' -d '{"payment":"fail"}'
curl -X PATCH ${here}/switches -H 'Content-Type: application/json' -d '{"payment":"ok"}'`,
)
