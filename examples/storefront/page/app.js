// The live page: draws the snapshots that the shop sends a few times a second. Everything that comes from the shop is
// shown as text, never as markup.
import { drawSwitches } from './controls.js'
import { at, count, pill, write } from './dom.js'
import { drawBreaker, drawCache, drawLimiter, drawTraffic } from './primitives.js'
import { drawParked } from './saga.js'
import { drawCheckouts, drawOrders } from './tables.js'

function draw(snapshot) {
  const { totals, about } = snapshot
  write(at('completed'), count.format(totals.completed))
  write(at('cancelled'), count.format(totals.cancelled))
  write(at('open'), count.format(totals.open))
  write(
    at('about'),
    `Events in ${about.events}, sagas and stock in ${about.sagas}, messages in ${about.messages}, the read model in ${about.readModel}, rate limit buckets in ${about.buckets}, the cache’s second level in ${about.cache}, everything else in memory.`,
  )
  drawSwitches(snapshot.switches)
  drawOrders(snapshot.orders, snapshot.readModelFailed)
  drawCheckouts(snapshot.checkouts)
  drawParked(snapshot.parked)
  drawBreaker(snapshot.breaker, snapshot.provider, snapshot.now)
  drawTraffic(snapshot.series)
  drawCache(snapshot.cache)
  drawLimiter(snapshot.limiter)
}

const live = new EventSource('/live')
live.addEventListener('message', ({ data }) => {
  pill(at('connection'), 'live')
  draw(JSON.parse(data))
})
live.addEventListener('error', () => pill(at('connection'), 'lost', 'the shop is closed'))
