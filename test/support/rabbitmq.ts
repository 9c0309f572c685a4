import amqp from 'amqplib'
import { inject } from 'vitest'
import { systemClock } from '../../src/kernel/clock.js'

/** The RabbitMQ that all test files share, once it has started: use a prefix of your own. */
export async function rabbitmqUrl(): Promise<string> {
  const url = inject('rabbitmqUrl')
  for (const late = Date.now() + 120_000; ; await systemClock.sleep(100)) {
    try {
      await (await amqp.connect(url)).close()
      return url
    } catch (error) {
      if (Date.now() > late) throw error
    }
  }
}
