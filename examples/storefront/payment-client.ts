import type { Clock } from 'holdfast'
import { CircuitBreaker, compose, exponential, retry, timeout, type Policy } from 'holdfast/resilience'
import type { Charge } from './payment-books.js'
import type { Behaviour, Ledger } from './payment-provider.js'

/** The provider said no, for good: the card is over its limit. Nothing was charged. */
export class PaymentDeclined extends Error {
  override readonly name = 'PaymentDeclined'
}

/** The provider said that it can't, for now. Nothing was charged. */
export class PaymentUnavailable extends Error {
  override readonly name = 'PaymentUnavailable'
}

/** A request got no answer: the money **may or may not have moved**. `cause` is the last thing that went wrong. */
export class PaymentUncertain extends Error {
  override readonly name = 'PaymentUncertain'
}

/** How patient the client is. */
export interface PaymentClientOptions {
  /** Milliseconds that one try may take. @defaultValue 800 */
  readonly timeoutMs?: number | undefined
  /** Milliseconds that an open circuit stays open before it tries again. @defaultValue 2_000 */
  readonly openMs?: number | undefined
  /** What both are measured by. @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/**
 * The way to the payment provider. Read from the outside in: `retry` tries once more, because the key makes that safe;
 * the breaker stops calling a provider that fails, and lets one call through now and then to see if it has healed;
 * `timeout` gives each try its time, and what hangs counts as a failure.
 */
export class PaymentClient {
  readonly breaker: CircuitBreaker
  readonly #policy: Policy

  constructor(
    private readonly url: string,
    { timeoutMs = 800, openMs = 2_000, clock }: PaymentClientOptions = {},
  ) {
    this.breaker = new CircuitBreaker({
      name: 'payment',
      window: { kind: 'count', size: 20, minimumCalls: 5, failureRatio: 0.5 },
      openMs,
      clock,
      isFailure: ({ error }) => isTrouble(error),
    })
    this.#policy = compose(
      retry({ attempts: 2, backoff: exponential({ initialMs: 50, maxMs: 200 }), retryOn: isTrouble }),
      this.breaker,
      timeout({ ms: timeoutMs, clock }),
    )
  }

  /**
   * Charges for an order. The order's id is the key of the charge: however often this is called, the card is charged once.
   * @throws PaymentDeclined, PaymentUnavailable, PaymentUncertain, CircuitOpenError
   */
  async charge(orderId: string, cents: number, signal?: AbortSignal): Promise<void> {
    await this.#send('PUT', orderId, signal, { cents })
  }

  /** Gives back what was charged for an order; if nothing was, nothing ever will be. @throws as {@link charge} */
  async refund(orderId: string, signal?: AbortSignal): Promise<void> {
    await this.#send('DELETE', orderId, signal)
  }

  /** What the provider's books say of an order; `undefined`: nothing. @throws PaymentUnavailable, CircuitOpenError, TimeoutError */
  async receipt(orderId: string, signal?: AbortSignal): Promise<Charge | undefined> {
    return (await this.#send('GET', orderId, signal)) as Charge | undefined
  }

  /** The provider's books in figures; `undefined` when it does not answer. */
  async ledger(): Promise<Ledger | undefined> {
    try {
      const response = await fetch(`${this.url}/ledger`, { signal: AbortSignal.timeout(200) })
      return (await response.json()) as Ledger
    } catch {
      return undefined
    }
  }

  /** Tells the provider how to behave. Not through the policy: it is about the fault, not about a payment. */
  async misbehave(behaviour: Behaviour): Promise<void> {
    await reach(`${this.url}/behaviour`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ behaviour }),
    })
  }

  async #send(method: 'PUT' | 'DELETE' | 'GET', key: string, signal?: AbortSignal, body?: object): Promise<unknown> {
    // A try that got no answer leaves it open what happened, and a later one that is refused does not change that.
    let unanswered = 0
    try {
      return await this.#policy.execute(
        async (call) => {
          unanswered++
          const response = await reach(`${this.url}/charges/${encodeURIComponent(key)}`, {
            method,
            signal: call.signal,
            ...(body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
          })
          const answer: unknown = await response.json()
          if (response.status < 500) unanswered = 0
          else if (response.status === 503) unanswered--
          return readAnswer(response.status, answer)
        },
        { signal },
      )
    } catch (error) {
      if (unanswered === 0 || method === 'GET') throw error
      throw new PaymentUncertain('no answer from the payment provider', { cause: error })
    }
  }
}

/** `fetch`, which has but a `TypeError` for whatever goes wrong on the way. @throws PaymentUnavailable */
async function reach(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init)
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new PaymentUnavailable('the payment provider can not be reached', { cause: error })
  }
}

/** A provider that declines a card is well, and asking again would not help. */
const isTrouble = (error: unknown): boolean => error !== undefined && !(error instanceof PaymentDeclined)

function readAnswer(status: number, answer: unknown): unknown {
  if (status === 404) return undefined
  if (status < 300) return answer
  const detail = String((answer as { error?: unknown }).error)
  if (status < 500) throw new PaymentDeclined(detail)
  throw new PaymentUnavailable(detail)
}
