import { messageOf } from '../kernel/errors.js'
import { events, EVENTS_HELP } from './events.js'
import { sagas, SAGAS_HELP } from './sagas.js'
import { UsageError, type Terminal } from './terminal.js'

const HELP = `Usage: holdfast <command> [options]

  events   list and follow events; an aggregate's state at any version, side by side
  sagas    list sagas, show one, and what operators do: retry, skip, resolve, redrive, cancel

holdfast <command> --help says more.`

const COMMANDS = {
  events: { run: events, help: EVENTS_HELP },
  sagas: { run: sagas, help: SAGAS_HELP },
}

/** Runs the command that `args` names. @returns the exit code: 1 when it failed, 2 when it was not understood. */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  const [name = '--help', ...rest] = args
  if (name === '--help' || name === '-h') {
    terminal.out(HELP)
    return 0
  }
  if (!Object.hasOwn(COMMANDS, name)) {
    terminal.err(`holdfast: no command ${JSON.stringify(name)}\n\n${HELP}`)
    return 2
  }
  const command = COMMANDS[name as keyof typeof COMMANDS]
  if (rest.includes('--help') || rest.includes('-h')) {
    terminal.out(command.help)
    return 0
  }
  try {
    await command.run(rest, terminal)
    return 0
  } catch (error) {
    if (terminal.signal.aborted && name === 'events') return 0 // it followed until it was asked to stop
    terminal.err(`holdfast ${name}: ${messageOf(error)}`)
    return error instanceof UsageError ? 2 : 1
  }
}
