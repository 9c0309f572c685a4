import { checkInteger, checkString } from '../kernel/check.js'
import { jsonCodec } from '../kernel/codec.js'
import { checkRedisClient, defineScript, sendRedis, type RedisClient } from '../kernel/redis.js'
import { hashTagged, nameOf } from '../kernel/redis-names.js'
import { DEFAULT_NAMESPACE } from './redis-namespace.js'
import type { Snapshot, SnapshotStore } from './snapshots.js'

/** Where {@link RedisSnapshots} are kept, and for how long. */
export interface RedisSnapshotsOptions {
  /** Stands before every key; may be that of the store. @defaultValue `'holdfast:{events}:'` */
  readonly namespace?: string | undefined
  /** Milliseconds after the last `put` for a stream, after which its snapshots go. Integer ≥ 1. @defaultValue never */
  readonly ttlMs?: number | undefined
}

/**
 * A stream's snapshots are a hash, `revision:version` → state, and beside it a sorted set of its fields, which finds the newest.
 * KEYS: both. ARGV: to put: field, state, for how long in ms (0: for ever).
 */
const putScript = defineScript(`
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
if ARGV[3] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return 1
`)

/** KEYS: both. ARGV: the lowest field and the highest. Returns the newest between them and its state, or nothing. */
const getScript = defineScript(`
local field = redis.call('ZREVRANGEBYLEX', KEYS[2], '[' .. ARGV[2], '[' .. ARGV[1], 'LIMIT', 0, 1)[1]
local state = field and redis.call('HGET', KEYS[1], field)
if not state then return {} end
return { field, state }
`)

/** Snapshots in Redis ≥ 6.2, one server or Cluster: one round trip each way. Redis may lose or evict them: that costs time, nothing else. */
export class RedisSnapshots implements SnapshotStore {
  readonly #client: RedisClient
  readonly #prefix: string
  readonly #ttlMs: number

  /**
   * @param client stays the caller's, who closes it
   * @throws InvalidOptionError when an argument is of the wrong kind. Nothing is sent.
   */
  constructor(client: RedisClient, { namespace = DEFAULT_NAMESPACE, ttlMs }: RedisSnapshotsOptions = {}) {
    this.#client = checkRedisClient(client)
    this.#prefix = hashTagged(checkString('namespace', namespace, 0))
    this.#ttlMs = ttlMs === undefined ? 0 : checkInteger('ttlMs', ttlMs, 1)
  }

  async get(stream: string, revision: number, maxVersion?: number): Promise<Snapshot | undefined> {
    const bounds = [fieldOf(revision, 0), fieldOf(revision, maxVersion ?? Number.MAX_SAFE_INTEGER)]
    const [field, state] = (await getScript.run(this.#client, this.#keys(stream), bounds)) as string[]
    if (field === undefined || state === undefined) return undefined
    return { version: Number(field.slice(field.indexOf(':') + 1)), state: jsonCodec.decode(state) }
  }

  async put(stream: string, revision: number, version: number, state: unknown): Promise<void> {
    const args = [fieldOf(revision, version), jsonCodec.encode(state), this.#ttlMs]
    await putScript.run(this.#client, this.#keys(stream), args)
  }

  async drop(stream: string): Promise<void> {
    await sendRedis(this.#client, 'del', this.#keys(stream))
  }

  /** `n` + stream, the states; `o` + stream, their order. */
  #keys(stream: string): string[] {
    return [`${this.#prefix}n${nameOf(stream)}`, `${this.#prefix}o${nameOf(stream)}`]
  }
}

/** In the order of texts as in that of numbers. */
const fieldOf = (revision: number, version: number): string =>
  `${checkInteger('revision', revision, 0)}:${String(checkInteger('version', version, 0)).padStart(16, '0')}`
