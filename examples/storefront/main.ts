import { help, readOptions, UsageError, type StorefrontOptions } from './options.js'
import type { Storefront } from './storefront.js'

/** However much is under way, Ctrl-C ends the process in this time. */
const LAST_RESORT_MS = 4_500
const ECHO_MS = 300

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2))
  if (options === 'help') return console.log(help)
  console.log('storefront: starting …') // before all the rest is even loaded: who waits should know for what
  const { startStorefront } = await import('./storefront.js')
  const storefront = await startStorefront(options, console.log)
  closeOn(['SIGINT', 'SIGTERM'], storefront)
  tell(options, storefront)
}

function tell({ load, ordersPerSecond }: StorefrontOptions, { url, paymentUrl, about }: Storefront): void {
  const { events, sagas, messages, buckets, cache, readModel } = about
  console.log(`storefront: events in ${events}, rate limit buckets in ${buckets}, cache in ${cache}`)
  console.log(`storefront: sagas in ${sagas}, read model in ${readModel}, messages in ${messages}`)
  console.log(`storefront: payment provider on ${paymentUrl}`)
  console.log(
    `storefront: ${load ? `${ordersPerSecond} orders per second are on their way` : 'no load, you are the only customer'}`,
  )
  console.log(`storefront: Ctrl-C stops it`)
  console.log(`storefront: open ${url}`)
}

function closeOn(signals: readonly NodeJS.Signals[], storefront: Storefront): void {
  let closingSince: number | undefined
  const close = async (): Promise<void> => {
    // The second Ctrl-C: at once. A launcher may pass the first one on once more: that is not meant.
    if (closingSince !== undefined) return performance.now() - closingSince > ECHO_MS ? process.exit(1) : undefined
    closingSince = performance.now()
    console.log('\nstorefront: closing …')
    setTimeout(() => process.exit(0), LAST_RESORT_MS).unref()
    await storefront.close()
    console.log('storefront: closed')
    process.exit(0)
  }
  for (const signal of signals) process.on(signal, () => void close())
}

main().catch((error: unknown) => {
  const expected = error instanceof UsageError || isBackendError(error) || isSystemError(error)
  console.error(expected ? `storefront: ${(error as Error).message}` : error)
  if (error instanceof UsageError) console.error('storefront: npm start -- --help says what there is')
  process.exit(1)
})

const isBackendError = (error: unknown): boolean => error instanceof Error && error.name === 'BackendError'

/** The host says no: `EACCES` for a port below 1024, `EADDRNOTAVAIL` for somebody else's address. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error
}
