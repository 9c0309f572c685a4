// Circuit breaker, requests, cache and rate limiter.
import { area, line, timeline } from './charts.js'
import { at, count, pill, write } from './dom.js'

let breakerWas

export function drawBreaker({ state, retryAfterMs, timeline: past }, provider, now) {
  pill(at('breaker-state'), state)
  const wait = state === 'open' && retryAfterMs > 0 ? `tries again in ${(retryAfterMs / 1_000).toFixed(1)} s` : ''
  write(at('breaker-hint'), wait)
  timeline(at('breaker-timeline'), past, now)
  if (breakerWas && breakerWas !== state) write(at('announce'), `The circuit breaker is ${state}.`)
  breakerWas = state
  const ledger =
    provider &&
    `The provider holds ${count.format(provider.charged)} payments, has refunded ${count.format(provider.refunded)}.`
  write(at('provider'), ledger ?? 'The provider does not answer.')
}

export function drawTraffic(series) {
  const last = series.at(-1)
  write(at('rate-now'), String(last.completed + last.cancelled))
  write(at('requests-now'), String(last.requests))
  write(at('latency-now'), String(last.p95))
  area(
    at('requests'),
    series.map(({ requests }) => requests),
    'requests per second',
  )
  line(
    at('latency'),
    series.map(({ p95 }) => p95),
    'milliseconds at the 95th percentile',
  )
  area(
    at('refusals'),
    series.map(({ refused }) => refused),
    'refusals per second',
  )
}

export function drawCache({ l1, l2, loads }) {
  const all = l1 + l2 + loads
  write(at('hit-ratio'), all ? `${(((l1 + l2) / all) * 100).toFixed(1)} %` : '–')
  write(at('cache-l1'), count.format(l1))
  write(at('cache-l2'), count.format(l2))
  write(at('cache-loads'), count.format(loads))
  const parts = [l1, l2, loads]
  parts.forEach((part, i) => (at('cache-bar').children[i].style.width = `${all ? (part / all) * 100 : 0}%`))
  at('cache-bar').setAttribute('aria-label', `${l1} first level, ${l2} second level, ${loads} loaded`)
}

export function drawLimiter({ refused, capacity, refillPerSecond, most, storeFailed }) {
  write(at('refused'), count.format(refused))
  write(at('limit'), `${refillPerSecond}/s per user, ${capacity} at once`)
  const greedy = most ? `Mostly ${most.userId}: ${count.format(most.refused)} times.` : 'Nobody was greedy so far.'
  write(at('greedy'), storeFailed ? 'The bucket store does not answer: requests pass.' : greedy)
}
