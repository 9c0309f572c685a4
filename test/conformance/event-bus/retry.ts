import { expect } from 'vitest'
import type { StandardSchema } from '../../../src/kernel/schema.js'
import type { DeliveryContext, Message } from '../../../src/messaging/index.js'
import { inOrder, range, type Law } from './bench.js'

/** What is tried again, and what becomes a dead letter. */
export function retryLaws(law: Law): void {
  law('a message is tried attempts times, then it is a dead letter with all that is known', async (t) => {
    const attempts: number[] = []
    await t.subscribe(
      'g',
      ['A'],
      (_, { attempt }) => {
        attempts.push(attempt)
        throw Object.assign(new TypeError(`failure ${attempt}`), { code: 'E_BAD' })
      },
      { retry: { attempts: 3, backoff: () => 1 } },
    )
    const message = { id: 'm', type: 'A', key: 'k', data: { n: 1 }, headers: { h: 'v' }, occurredAt: new Date(7) }
    await t.bus.publish(message)
    await t.until(async () => (await t.dead('g')).length === 1)
    expect(attempts).toEqual([1, 2, 3])
    expect(await t.dead('g')).toEqual([
      {
        id: 'm',
        message,
        headers: { h: 'v' },
        reason: 'attempts',
        attempts: 3,
        firstError: { name: 'TypeError', message: 'failure 1', code: 'E_BAD', stack: expect.any(String) },
        lastError: { name: 'TypeError', message: 'failure 3', code: 'E_BAD', stack: expect.any(String) },
        diedAt: expect.any(Date),
      },
    ])
  })

  law('the backoff is asked with the attempt, the error and the wait before', async (t) => {
    const asked: unknown[] = []
    const error = new Error('down')
    const backoff = (attempt: number, e: unknown, { previousMs }: { previousMs: number | undefined }): number => {
      asked.push([attempt, e, previousMs])
      return attempt
    }
    await t.subscribe('g', ['A'], () => Promise.reject(error), { retry: { attempts: 3, backoff } })
    await t.bus.publish({ type: 'A', data: 1 })
    await t.until(async () => (await t.dead('g')).length === 1)
    expect(asked).toEqual([
      [1, error, undefined],
      [2, error, 1],
    ])
  })

  law('an error that retryOn refuses makes a dead letter at once', async (t) => {
    const retryOn = (error: unknown): boolean => (error as Error).message !== 'hopeless'
    const handle = (message: Message): never => {
      throw new Error(message.data as string)
    }
    await t.subscribe('g', ['A'], handle, { retry: { attempts: 2, backoff: () => 0, retryOn } })
    await t.bus.publish([
      { type: 'A', data: 'hopeless' },
      { type: 'A', data: 'hopeful' },
    ])
    await t.until(async () => (await t.dead('g')).length === 2)
    expect((await t.dead('g')).map(({ message, reason, attempts }) => [message.data, reason, attempts])).toEqual([
      ['hopeless', 'rejected', 1],
      ['hopeful', 'attempts', 2],
    ])
  })

  law('a message that does not fit the schema is a dead letter that the handler never saw', async (t) => {
    const seen: Message[] = []
    const even: StandardSchema = {
      '~standard': {
        version: 1,
        vendor: 'test',
        validate: (n) => ((n as number) % 2 === 0 ? { value: `even ${String(n)}` } : { issues: [{ message: 'odd' }] }),
      },
    }
    await t.subscribe('g', ['A', 'B'], (message) => void seen.push(message), { schema: { A: even } })
    await t.bus.publish([
      { id: 'one', type: 'A', data: 1 },
      { id: 'two', type: 'A', data: 2 },
      { id: 'three', type: 'B', data: 3 },
    ])
    await t.until(async () => seen.length === 2 && (await t.dead('g')).length === 1)
    expect(new Set(seen.map(({ data }) => data))).toEqual(new Set([3, 'even 2']))
    expect(await t.dead('g')).toMatchObject([
      { id: 'one', reason: 'invalid', message: { data: 1 }, firstError: { code: 'INVALID_PAYLOAD' } },
    ])
  })

  law('a dead letter lets the next of its key go', async (t) => {
    const seen: Message[] = []
    const handle = (message: Message): void => {
      if (message.data === 0) throw new Error('poison')
      seen.push(message)
    }
    await t.subscribe('g', ['A'], handle, { order: 'key', retry: { attempts: 2, backoff: () => 1 } })
    await t.bus.publish(t.many(4, 'A', 'k'))
    await t.until(() => seen.length >= 3)
    expect(inOrder(seen)).toEqual([1, 2, 3])
    expect((await t.dead('g')).map(({ message }) => message.data)).toEqual([0])
  })

  law('dead letters are those of one group, the longest dead first, as many as asked for', async (t) => {
    const fail = (): never => {
      throw new Error('no')
    }
    await t.subscribe('g', ['A'], fail, { concurrency: 1, retry: { attempts: 1 } })
    const fine = await t.collect('h', ['A'])
    await t.bus.publish(range(4).map((n) => ({ id: `m${n}`, type: 'A', key: 'k', data: n })))
    await t.until(async () => fine.length === 4 && (await t.dead('g')).length === 4)
    expect((await t.dead('g')).map(({ id }) => id)).toEqual(['m0', 'm1', 'm2', 'm3'])
    expect((await t.bus.deadLetters('g').list(2)).map(({ id }) => id)).toEqual(['m0', 'm1'])
    expect((await t.bus.deadLetters('g').list(2)).map(({ id }) => id)).toEqual(['m0', 'm1'])
    expect(await t.dead('h')).toEqual([])
    expect(await t.dead('nobody')).toEqual([])
  })

  law('requeue delivers again with attempts from 1, drop forgets, and both once', async (t) => {
    let heal = false
    const seen: [string, number][] = []
    const handle = ({ id }: Message, { attempt }: DeliveryContext): void => {
      seen.push([id, attempt])
      if (!heal) throw new Error('down')
    }
    await t.subscribe('g', ['A'], handle, { retry: { attempts: 2, backoff: () => 0 } })
    await t.bus.publish([
      { id: 'again', type: 'A', data: 1 },
      { id: 'away', type: 'A', data: 2 },
    ])
    await t.until(async () => (await t.dead('g')).length === 2)
    seen.length = 0
    heal = true
    const letters = t.bus.deadLetters('g')
    await letters.requeue('again')
    await letters.drop('away')
    await t.until(() => seen.length >= 1)
    expect(seen).toEqual([['again', 1]])
    expect(await t.dead('g')).toEqual([])
    for (const act of [letters.requeue, letters.drop])
      for (const id of ['again', 'away', 'never'])
        await expect(act.call(letters, id)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(t.bus.deadLetters('nobody').requeue('again')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  law('a requeued message that fails again is a dead letter again', async (t) => {
    let runs = 0
    await t.subscribe('g', ['A'], () => Promise.reject(new Error(`run ${++runs}`)), { retry: { attempts: 1 } })
    await t.bus.publish({ id: 'm', type: 'A', data: 1 })
    await t.until(async () => (await t.dead('g')).length === 1)
    await t.bus.deadLetters('g').requeue('m')
    await t.until(async () => runs === 2 && (await t.dead('g')).length === 1)
    expect(await t.dead('g')).toMatchObject([{ attempts: 1, firstError: { message: 'run 2' } }])
  })
}
