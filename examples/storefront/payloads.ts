import { z } from 'zod'
import { skus } from './catalogue.js'
import { checkoutKinds } from './checkout.js'
import { behaviours } from './payment-provider.js'

// Everything that comes from outside, as it must be. Unknown fields are mistakes: a typo should not be swallowed.

export const userIdHeader = z.string().regex(/^[\w.@-]{1,64}$/, '1 to 64 letters, digits, or any of . _ @ -')
export const idempotencyKeyHeader = z.string().min(1).max(255)

export const orderBody = z.strictObject({
  items: z
    .array(z.strictObject({ sku: z.enum(skus), quantity: z.int().min(1).max(100) }))
    .min(1)
    .max(20),
  shipTo: z.string().trim().min(1).max(100),
})

export const cancelBody = z.strictObject({
  detail: z.string().max(200).default(''),
  /** Only if the order is still at this version: the customer has seen it so. */
  expectedVersion: z.int().min(1).optional(),
})

export const switchesBody = z
  .strictObject({
    payment: z.enum(behaviours),
    stock: z.enum(['ok', 'out']),
    /** `undo`: stock can't be put back; `pickup`: the van does not come, after the point of no return. Either parks sagas. */
    broken: z.enum(['nothing', 'undo', 'pickup']),
    checkout: z.enum(checkoutKinds),
    load: z.boolean(),
    ordersPerSecond: z.number().min(1).max(200),
  })
  .partial()

/** The switches of the page, as they stand. */
export type Switches = Required<z.output<typeof switchesBody>>

/** What an operator decides about a parked saga. */
export const operatorBody = z
  .strictObject({
    verb: z.enum(['retry', 'skip', 'resolve', 'redrive']),
    /** The step it is about; of `redrive` the one to begin with. */
    path: z.string().min(1).max(200).optional(),
    why: z.string().max(200).default(''),
  })
  .refine(({ verb, path }) => (verb === 'retry') === (path === undefined), {
    path: ['path'],
    message: 'a step for all but retry',
  })

const count = z.coerce.number().pipe(z.int())

export const orderQuery = z.strictObject({ atLeast: count.pipe(z.int().min(0)).optional() })
export const historyQuery = z.strictObject({ version: count.pipe(z.int().min(1)).optional() })
export const eventsQuery = z.strictObject({ after: count.pipe(z.int().min(0)).optional() })
export const listQuery = z.strictObject({
  limit: count.pipe(z.int().min(1).max(100)).default(20),
  status: z.enum(['placed', 'shipped', 'cancelled']).optional(),
  user: userIdHeader.optional(),
})
