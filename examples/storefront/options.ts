import { parseArgs } from 'node:util'
import { checkoutKinds, type CheckoutKind } from './checkout.js'

/** What the command line says. */
export interface StorefrontOptions {
  readonly host: string
  readonly port: number
  readonly redis: string | undefined
  readonly postgres: string | undefined
  readonly readPostgres: string | undefined
  readonly rabbitmq: string | undefined
  readonly paymentUrl: string | undefined
  readonly payment: { readonly timeoutMs: number }
  readonly checkout: CheckoutKind
  readonly load: boolean
  readonly ordersPerSecond: number
}

export const help = `A small shop at work on the primitives of holdfast.

  npm start -- [options]

  --port N           where the page and the API are served (default 3000; the next free one when it is taken)
  --host NAME        the address to listen on (default 127.0.0.1: this machine only)
  --redis URL        keep the rate limiter's buckets and the cache's second level in Redis: redis://localhost:6379; with
                     --postgres also the messages of choreographed checkouts
  --postgres URL     keep events, sagas, stock and payments in PostgreSQL: postgres://user:password@localhost:5432/name
  --read-postgres URL
                     keep the read model in that PostgreSQL (default with --postgres: the same one; either way in the
                     schema storefront_read)
  --rabbitmq URL     with --postgres: messages of choreographed checkouts go over that RabbitMQ, not over Redis:
                     amqp://localhost
  --payment URL      use the payment provider there (default: one of its own)
  --payment-timeout MS
                     give it so long for each try, 1 to 60000 (default 800)
  --checkout KIND    ${checkoutKinds.join(' or ')} (default ${checkoutKinds[0]}; the page can switch)
  --rate N           orders per second of the built-in load, 1 to 200 (default 5)
  --no-load          no built-in load: you are the only customer
  --help             this text`

/** A mistake on the command line. The message is for people. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** @returns `'help'` when that is what was asked for. @throws UsageError */
export function readOptions(args: readonly string[]): StorefrontOptions | 'help' {
  const values = parse(args)
  if (values.help) return 'help'
  const {
    host = '127.0.0.1',
    port = '3000',
    checkout = checkoutKinds[0],
    rate = '5',
    'payment-timeout': timeout = '800',
  } = values
  const kind = checkoutKinds.find((it) => it === checkout)
  if (!kind) throw new UsageError(`--checkout: ${checkoutKinds.join(' or ')}, not '${checkout}'`)
  const [postgres, readPostgres] = [postgresOf('postgres', values), postgresOf('read-postgres', values)]
  if (readPostgres && !postgres)
    // else it would know of events that no log has any more
    throw new UsageError('--read-postgres: only with --postgres, for a read model must not outlive its log')
  const rabbitmq = urlOf('--rabbitmq', values.rabbitmq, ['amqp:', 'amqps:'])
  if (rabbitmq && !postgres)
    throw new UsageError(
      '--rabbitmq: only with --postgres, for messages must not outlive the orders that they speak of',
    )
  return {
    host,
    port: numberOf('--port', port, 0, 65_535),
    redis: urlOf('--redis', values.redis, ['redis:', 'rediss:']),
    postgres,
    readPostgres,
    rabbitmq,
    paymentUrl: urlOf('--payment', values.payment, ['http:', 'https:']),
    payment: { timeoutMs: numberOf('--payment-timeout', timeout, 1, 60_000) },
    checkout: kind,
    load: !values['no-load'],
    ordersPerSecond: numberOf('--rate', rate, 1, 200),
  }
}

function parse(args: readonly string[]) {
  const string = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const options = {
    host: string,
    port: string,
    redis: string,
    postgres: string,
    'read-postgres': string,
    rabbitmq: string,
    payment: string,
    'payment-timeout': string,
    checkout: string,
    rate: string,
    'no-load': flag,
    help: { ...flag, short: 'h' },
  } as const
  try {
    return parseArgs({ args: [...args], options, strict: true }).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function numberOf(option: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= min && value <= max) return value
  throw new UsageError(`${option}: a whole number from ${min} to ${max}, not '${text}'`)
}

function postgresOf<Name extends string>(name: Name, values: { readonly [N in Name]?: string | undefined }) {
  return urlOf(`--${name}`, values[name], ['postgres:', 'postgresql:'])
}

function urlOf(option: string, text: string | undefined, protocols: readonly string[]): string | undefined {
  if (text === undefined) return undefined
  if (URL.canParse(text) && protocols.includes(new URL(text).protocol)) return text
  throw new UsageError(
    `${option}: an address that begins with ${protocols.map((it) => `${it}//`).join(' or ')}, not '${text}'`,
  )
}
