/*
 * After the prefix, `e:key` is an entry, `l:key` a lease, `m:run` the mark of a run, `s` the state; `t0` and `t1` are shelves of
 * tags. All keys of a store are in one slot of a Cluster, because one script changes several: the prefix has a hash tag, or is
 * made one.
 */

/** Stands before every key, unless the user says otherwise. */
export const DEFAULT_PREFIX = 'holdfast:{cache}:'
