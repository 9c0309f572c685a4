import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { z } from 'zod'
import { MemoryPaymentBooks, type PaymentBooks } from './payment-books.js'

/** How the provider behaves: `slow` answers late, `fail` with 503, `hang` does what it is asked to and never answers. */
export const behaviours = ['ok', 'slow', 'fail', 'hang'] as const
export type Behaviour = (typeof behaviours)[number]

/** The provider's books in figures. */
export interface Ledger {
  readonly behaviour: Behaviour
  /** Charges that stand: not refunded. */
  readonly charged: number
  readonly refunded: number
  /** Requests that were left hanging, so far. */
  readonly hung: number
}

/** Where a provider is and what it writes in. */
export interface PaymentProviderOptions {
  /** @defaultValue 127.0.0.1 */
  readonly host?: string | undefined
  /** @defaultValue books in memory */
  readonly books?: PaymentBooks | undefined
}

/** A running provider. */
export interface PaymentProvider {
  readonly url: string
  close(): Promise<void>
}

const SLOW_MS = 400
const CARD_LIMIT_CENTS = 200_000

const chargeBody = z.strictObject({ cents: z.int().positive() })
const behaviourBody = z.strictObject({ behaviour: z.enum(behaviours) })

/**
 * Somebody else's service: a real HTTP server on a port of its own, which the shop knows by its address only. The shop
 * chooses the key of a charge: to PUT it again charges once, and to DELETE it refunds also a charge whose answer was lost.
 */
export async function startPaymentProvider({
  host = '127.0.0.1',
  books = new MemoryPaymentBooks(),
}: PaymentProviderOptions = {}): Promise<PaymentProvider> {
  let behaviour: Behaviour = 'ok'
  let hung = 0
  const app = new Hono()

  app.use('/charges/*', async (c, next) => {
    if (behaviour === 'fail') return c.json({ error: 'the bank is down' }, 503)
    if (behaviour === 'slow') await new Promise((resolve) => setTimeout(resolve, SLOW_MS))
    await next()
    // The worst kind of trouble: done, but the one who asked will never know.
    if (behaviour !== 'hang') return
    hung++
    await new Promise((resolve) => c.req.raw.signal.addEventListener('abort', resolve))
  })

  app.put('/charges/:key', async (c) => {
    const key = c.req.param('key')
    const { cents } = chargeBody.parse(await c.req.json())
    if (cents > CARD_LIMIT_CENTS) return c.json({ error: 'over the limit of the card' }, 402)
    const charge = await books.charge(key, cents)
    if (charge.state !== 'charged') return c.json({ error: `the charge is ${charge.state}` }, 409)
    return c.json(charge)
  })

  app.delete('/charges/:key', async (c) => c.json(await books.refund(c.req.param('key'))))

  app.get('/charges/:key', async (c) => {
    const known = await books.find(c.req.param('key'))
    return known ? c.json(known) : c.json({ error: 'no such charge' }, 404)
  })

  app.put('/behaviour', async (c) => {
    behaviour = behaviourBody.parse(await c.req.json()).behaviour
    return c.json({ behaviour })
  })

  app.get('/ledger', async (c) => {
    const { charged, refunded } = await books.counts()
    return c.json({ behaviour, charged, refunded, hung } satisfies Ledger)
  })

  app.onError((error, c) =>
    error instanceof z.ZodError || error instanceof SyntaxError
      ? c.json({ error: error.message }, 400)
      : c.json({ error: 'internal' }, 500),
  )

  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, hostname: host, port: 0 }, ({ port }: AddressInfo) =>
      resolve({
        url: `http://${host}:${port}`,
        close: () =>
          new Promise((closed) => {
            server.close(() => closed())
            if ('closeAllConnections' in server) server.closeAllConnections() // hung requests are meant to hang
          }),
      }),
    )
    server.once('error', reject)
  })
}
