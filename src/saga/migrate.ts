import { checkObject, checkString, invalid } from '../kernel/check.js'
import { NotFoundError } from '../kernel/errors.js'
import { checkDefinition, orderOf } from './checks.js'
import type { SagaDefinition } from './definition.js'
import { SagaMigrationError, type MigrationRefusal } from './errors.js'
import { SagaMachine } from './machine.js'
import { planMigration, type MigrationWish } from './migration.js'
import type { Operator } from './orchestrator-options.js'
import { payloadText } from './payload.js'
import type { SagaStore, StoredSaga } from './store.js'

/** What a saga is to go on as: see `SagaOrchestrator.migrate`. */
export interface MigrateOptions {
  /** The definition that it gets: of the same name, another version or structure. */
  readonly to: SagaDefinition
  /** The definition that it began with. @defaultValue the registered one of its version */
  readonly from?: SagaDefinition | undefined
  /** @defaultValue 'operator' */
  readonly by?: Operator | undefined
  /**
   * By path, results of new nodes that count as done where a saga is past them already: as after `resolve`, one that can be undone is undone when
   * the saga turns back. A saga that has not come so far runs them. @defaultValue none
   */
  readonly done?: Readonly<Record<string, unknown>> | undefined
  /** Paths of new nodes that a saga that is past them already does without: no result, nothing to undo. @defaultValue none */
  readonly skipped?: readonly string[] | undefined
}

/** What moving a saga needs of its orchestrator. */
export interface MigrationHost {
  readonly store: SagaStore
  /** The rules of a registered definition, whatever its structure. */
  readonly machineOf: (saga: StoredSaga) => SagaMachine | undefined
}

/** See `SagaOrchestrator.migrate`. @returns whether it was moved; `false`: it had been before */
export async function migrate(
  { store, machineOf }: MigrationHost,
  id: string,
  options: MigrateOptions,
): Promise<boolean> {
  const { to: target, from } = checkObject('options', options)
  checkDefinition('to', target, store)
  if (from !== undefined) checkDefinition('from', from, store)
  if (!store.move) invalid('store', 'one that can move sagas to another definition', store)
  const to = new SagaMachine(target)
  const wish = wishOf(options, to)
  const { name, version, hash } = target
  for (;;) {
    // oxlint-disable-next-line no-await-in-loop -- again when it has gone on meanwhile
    const saga = await store.read(id)
    if (!saga) throw new NotFoundError(`there is no saga '${id}'`)
    const refuse = (reason: MigrationRefusal, why: string): never => {
      throw new SagaMigrationError(`saga '${id}' ${why}`, id, reason)
    }
    if (saga.name !== name) refuse('other-saga', `is a '${saga.name}', not a '${name}'`)
    if (saga.version === version && saga.hash === hash) return false
    if (saga.status === 'completed' || saga.status === 'compensated') refuse('ended', `is ${saga.status}`)
    const old = [from && new SagaMachine(from), machineOf(saga)].find(
      (machine) => machine?.definition.version === saga.version && machine.definition.hash === saga.hash,
    )
    if (!old) return refuse('unknown-definition', `began with '${name}' version ${saga.version}, which is not known`)
    const { entries, letGo, otherwise } = planMigration(saga, old, { to, wish })
    const { epoch, createdAt } = saga
    const move = { id, epoch, createdAt, position: saga.journal.length, to: { name, version, hash }, entries, letGo }
    // oxlint-disable-next-line no-await-in-loop
    const moved = await store.move(move)
    if (moved === 'ok') return true
    if (moved === 'owned') refuse('busy', 'is being run by somebody at the moment')
    if (moved === 'expired') throw otherwise
  }
}

function wishOf({ by = 'operator', done = {}, skipped = [] }: MigrateOptions, to: SagaMachine): MigrationWish {
  if (!Array.isArray(skipped)) invalid('skipped', 'an array of paths', skipped)
  const results = new Map(
    Object.entries(checkObject('done', done)).map(
      ([path, value]) => [path, payloadText(`done['${path}']`, value)] as const,
    ),
  )
  const without = new Set(skipped.map((path: unknown) => checkString('skipped', path)))
  for (const path of [...results.keys(), ...without]) {
    const kind = to.nodes.get(path)?.kind
    if (kind === undefined || kind === 'parallel')
      invalid('done, skipped', `paths of steps, waits or pauses of '${to.definition.name}'`, path)
    if (results.has(path) && without.has(path)) invalid('skipped', 'paths that are not in done', path)
  }
  const { who, why } = orderOf(by)
  return { who, why, done: results, skipped: without }
}
