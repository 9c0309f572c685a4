import { expect, test } from 'vitest'
import { z } from 'zod'
import {
  CommandBus,
  QueryBus,
  type Bus,
  type BusContext,
  type BusMessage,
  type Middleware,
} from '../../src/cqrs/index.js'

type Shop = {
  PlaceOrder: { in: { orderId: string; cents: number }; out: { position: number } }
  CancelOrder: { in: string; out: void }
}

const context = async (bus: Bus<Shop>, options?: Parameters<Bus<Shop>['send']>[2]): Promise<BusContext> => {
  let seen: BusContext | undefined
  const off = bus.on('CancelOrder', (_, given) => void (seen = given))
  await bus.send('CancelOrder', 'o', options)
  off()
  return seen as BusContext
}

for (const [name, make] of [
  ['command bus', () => new CommandBus<Shop>()],
  ['query bus', () => new QueryBus<Shop>()],
] as const) {
  test(`${name}: a message reaches its handler, and the answer comes back`, async () => {
    const bus = make()
    bus.on('PlaceOrder', ({ cents }) => ({ position: cents }))
    bus.on('CancelOrder', async () => {})
    expect(await bus.send('PlaceOrder', { orderId: 'o', cents: 5 })).toEqual({ position: 5 })
    expect(await bus.send('CancelOrder', 'o')).toBeUndefined()
  })

  test(`${name}: a type without a handler is not found, whatever its name`, async () => {
    const bus = new CommandBus()
    for (const type of ['Nothing', '__proto__', 'toString', ''])
      await expect(bus.send(type, 1)).rejects.toMatchObject({ name: 'NotFoundError', code: 'NOT_FOUND' })
    bus.on('__proto__', () => 'found')
    expect(await bus.send('__proto__', 1)).toBe('found')
  })

  test(`${name}: a second handler for a type is refused and the first stays, until it is taken away`, async () => {
    const bus = make()
    const off = bus.on('CancelOrder', () => {})
    expect(() => bus.on('CancelOrder', () => expect.fail('replaced'))).toThrow(/has a handler already/)
    await bus.send('CancelOrder', 'o')
    off()
    await expect(bus.send('CancelOrder', 'o')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    let calls = 0
    bus.on('CancelOrder', () => void calls++)
    off() // the first one's: it must not take the second away
    await bus.send('CancelOrder', 'o')
    expect(calls).toBe(1)
  })

  test(`${name}: what a handler throws, at once or later, comes out as the same object`, async () => {
    const bus = make()
    const error = new Error('sold out')
    bus.on('PlaceOrder', () => {
      throw error
    })
    bus.on('CancelOrder', () => Promise.reject(error))
    await expect(bus.send('PlaceOrder', { orderId: 'o', cents: 1 })).rejects.toBe(error)
    await expect(bus.send('CancelOrder', 'o')).rejects.toBe(error)
  })

  test(`${name}: an input that its schema refuses never reaches the handler; one that fits arrives as the schema gives it`, async () => {
    const bus = make()
    const seen: unknown[] = []
    const schema = z.object({ orderId: z.string().trim(), cents: z.number().int().positive() })
    bus.on('PlaceOrder', (input) => ({ position: seen.push(input) }), { schema })
    await expect(bus.send('PlaceOrder', { orderId: ' o ', cents: -1 })).rejects.toMatchObject({
      code: 'INVALID_PAYLOAD',
      message: expect.stringContaining('"PlaceOrder" is not valid'),
      issues: [{ path: ['cents'] }],
    })
    expect(seen).toEqual([])
    await bus.send('PlaceOrder', { orderId: ' o ', cents: 2 })
    expect(seen).toEqual([{ orderId: 'o', cents: 2 }])
  })

  test(`${name}: a schema may be a function, and what is no schema is refused`, async () => {
    const bus = make()
    const schema = Object.assign(() => {}, { '~standard': z.string().trim()['~standard'] })
    bus.on('CancelOrder', (input) => expect(input).toBe('o'), { schema })
    await bus.send('CancelOrder', ' o ')
    for (const wrong of [7, null, {}, () => 1])
      expect(() => bus.on('PlaceOrder', () => ({ position: 0 }), { schema: wrong as never })).toThrow(
        /^schema: expected/,
      )
  })

  test(`${name}: an abort while the input is being validated ends the send, and the handler does not run`, async () => {
    const bus = make()
    const endless = {
      '~standard': { version: 1, vendor: 'test', validate: () => new Promise<never>(() => {}) },
    } as const
    bus.on('CancelOrder', () => expect.fail('ran'), { schema: endless })
    const controller = new AbortController()
    const sent = bus.send('CancelOrder', 'o', { signal: controller.signal })
    const reason = new Error('gone')
    controller.abort(reason)
    await expect(sent).rejects.toBe(reason)
  })

  test(`${name}: middleware runs from the first to the last and back, around lookup, validation and handler`, async () => {
    const bus = make()
    const order: string[] = []
    const layer =
      (n: number): Middleware =>
      async ({ type }, next) => {
        order.push(`${n} in ${type}`)
        try {
          return await next()
        } catch (error) {
          order.push(`${n} saw ${(error as { code: string }).code}`)
          throw error
        } finally {
          order.push(`${n} out`)
        }
      }
    bus.use(layer(1), layer(2))
    bus.use(layer(3))
    bus.on('CancelOrder', () => void order.push('handled'), { schema: z.string().min(1) })
    await bus.send('CancelOrder', 'o')
    expect(order.splice(0)).toEqual([
      '1 in CancelOrder',
      '2 in CancelOrder',
      '3 in CancelOrder',
      'handled',
      '3 out',
      '2 out',
      '1 out',
    ])
    await expect(bus.send('CancelOrder', '')).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
    await expect(bus.send('PlaceOrder', { orderId: '', cents: 1 })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    expect(order.filter((line) => line.includes('saw'))).toEqual([
      '3 saw INVALID_PAYLOAD',
      '2 saw INVALID_PAYLOAD',
      '1 saw INVALID_PAYLOAD',
      '3 saw NOT_FOUND',
      '2 saw NOT_FOUND',
      '1 saw NOT_FOUND',
    ])
  })

  test(`${name}: middleware may answer itself, throw, change the answer, and try again`, async () => {
    const bus = make()
    let calls = 0
    bus.on('PlaceOrder', () => {
      if (++calls < 3) throw new Error('busy')
      return { position: calls }
    })
    const error = new Error('forbidden')
    bus.use(
      ({ type }, next) => {
        if (type === 'CancelOrder') throw error
        return next()
      },
      async (_, next) => {
        for (;;) {
          try {
            return await next()
          } catch {}
        }
      },
      async (_, next) => ({ position: ((await next()) as { position: number }).position * 10 }),
    )
    expect(await bus.send('PlaceOrder', { orderId: 'o', cents: 1 })).toEqual({ position: 30 })
    expect(calls).toBe(3)
    await expect(bus.send('CancelOrder', 'o')).rejects.toBe(error)
    bus.use(() => ({ position: -1 }))
    expect(await bus.send('PlaceOrder', { orderId: 'o', cents: 1 })).toEqual({ position: -10 })
    expect(calls).toBe(3)
  })

  test(`${name}: middleware added while a message is under way does not touch it`, async () => {
    const bus = make()
    let late = 0
    bus.on('CancelOrder', () => {})
    bus.use((_, next) => {
      bus.use((__, inner) => {
        late++
        return inner()
      })
      return next()
    })
    await bus.send('CancelOrder', 'o')
    expect(late).toBe(0)
    await bus.send('CancelOrder', 'o')
    expect(late).toBe(1)
  })

  test(`${name}: a message on its own gets an id, begins a conversation and causes what follows`, async () => {
    const bus = make()
    const one = await context(bus)
    const two = await context(bus)
    expect(one.messageId).not.toBe(two.messageId)
    expect(one).toMatchObject({
      idempotencyKey: one.messageId,
      metadata: { correlationId: one.messageId, causationId: one.messageId },
    })
  })

  test(`${name}: ids, key and metadata of the sender are kept, and the message is the cause of what follows`, async () => {
    const metadata = { correlationId: 'talk', causationId: 'event-1', userId: 7 }
    const seen = await context(make(), { messageId: 'm', metadata })
    expect(seen).toMatchObject({ messageId: 'm', idempotencyKey: 'm' })
    expect(seen.metadata).toEqual({ correlationId: 'talk', causationId: 'm', userId: 7 })
    expect(metadata.causationId).toBe('event-1')
    expect(await context(make(), { messageId: 'm', idempotencyKey: 'k' })).toMatchObject({ idempotencyKey: 'k' })
    expect(await context(make(), { idempotencyKey: 'k' })).not.toMatchObject({ messageId: 'k' })
  })

  test(`${name}: a command sent by a handler with its own metadata continues the conversation`, async () => {
    const bus = make()
    const messages: BusMessage[] = []
    bus.use((message, next) => {
      messages.push(message)
      return next()
    })
    bus.on('PlaceOrder', async (_, { metadata }) => {
      await bus.send('CancelOrder', 'o', { messageId: 'child', metadata })
      return { position: 0 }
    })
    let inner: BusContext | undefined
    bus.on('CancelOrder', (_, given) => void (inner = given))
    await bus.send(
      'PlaceOrder',
      { orderId: 'o', cents: 1 },
      { messageId: 'parent', metadata: { correlationId: 'talk' } },
    )
    expect(messages.map(({ metadata }) => metadata)).toEqual([
      { correlationId: 'talk' },
      { correlationId: 'talk', causationId: 'parent' },
    ])
    expect(inner?.metadata).toEqual({ correlationId: 'talk', causationId: 'child' })
  })

  test(`${name}: middleware adds metadata and replaces the signal for what is further inside`, async () => {
    const bus = make()
    const own = new AbortController()
    const seen: BusMessage[] = []
    bus.use(
      (_, next) => next({ metadata: { tenant: 'a', correlationId: undefined } }),
      (_, next) => next({ signal: own.signal }),
      (message, next) => {
        seen.push(message)
        return next({ metadata: { user: 1 } })
      },
    )
    const given = await context(bus, { messageId: 'm' })
    expect(seen[0]?.signal).toBe(own.signal)
    expect(seen[0]?.metadata).toEqual({ tenant: 'a', correlationId: 'm' })
    expect(given.signal).toBe(own.signal)
    expect(given.metadata).toEqual({ tenant: 'a', user: 1, correlationId: 'm', causationId: 'm' })
  })

  test(`${name}: an aborted signal keeps the handler from running; later it is the handler's to notice`, async () => {
    const bus = make()
    const controller = new AbortController()
    const reason = new Error('gone')
    let runs = 0
    bus.on('CancelOrder', async (_, { signal }) => {
      runs++
      controller.abort(reason)
      expect(signal.aborted).toBe(true)
    })
    await bus.send('CancelOrder', 'o', { signal: controller.signal })
    await expect(bus.send('CancelOrder', 'o', { signal: controller.signal })).rejects.toBe(reason)
    expect(runs).toBe(1)
  })

  test(`${name}: without a signal of the sender the handler still has one, also in a copy of its context`, async () => {
    const given = await context(make())
    expect({ ...given }.signal).toBeInstanceOf(AbortSignal)
    expect(given.signal).toBe(given.signal)
    expect(given.signal.aborted).toBe(false)
  })

  test(`${name}: what is no handler, no middleware, no option is refused`, async () => {
    const bus = make()
    expect(() => bus.on('' as 'CancelOrder', () => {})).toThrow(/type: expected a string/)
    expect(() => bus.on('CancelOrder', 'f' as never)).toThrow(/handle: expected a function/)
    expect(() => bus.use('f' as never)).toThrow(/middleware: expected a function/)
    expect(() => bus.on('CancelOrder', () => {}, null as never)).toThrow(/options: expected an object/)
    bus.on('CancelOrder', () => expect.fail('ran'))
    const wrong = [{ messageId: '' }, { idempotencyKey: 7 }, { metadata: 'x' }, { metadata: { correlationId: 7 } }, 'x']
    for (const options of wrong)
      await expect(bus.send('CancelOrder', 'o', options as object)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })
}

test('an interface serves as the map of types, and answers have their type', async () => {
  interface Clinic {
    Book: { in: { day: Date }; out: string }
  }
  const bus = new CommandBus<Clinic>()
  bus.on('Book', ({ day }) => day.toISOString())
  const booked: string = await bus.send('Book', { day: new Date(0) })
  expect(booked).toBe('1970-01-01T00:00:00.000Z')
})
