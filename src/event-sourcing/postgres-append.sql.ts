import * as marks from '../kernel/postgres-marks.js'
import { sqlLiteral } from '../kernel/postgres-schema.js'

const NOW = `date_trunc('milliseconds', clock_timestamp())`

/** A stream `k` and so many of its next versions, if it may take them. Nothing comes back when it may not. */
const takeOfAny = (s: string, count: string, name: string = 'p_name'): string => `
      insert into ${s}.es_streams as s (stream, name, version, last_at) values (k, nullif(${name}, k), ${count}, ${NOW})
        on conflict (stream) do update set version = s.version + ${count}, last_at = greatest(s.last_at, ${NOW})
          where s.state = 0
        returning s.version, s.last_at`
/** As {@link takeOfAny}, of a stream that does not exist yet. */
const takeOfNew = (s: string, count: string, name: string = 'p_name'): string => `
      insert into ${s}.es_streams as s (stream, name, version, last_at) values (k, nullif(${name}, k), ${count}, ${NOW})
        on conflict (stream) do nothing
        returning s.version, s.last_at`
/** As {@link takeOfAny}, of a stream that exists (`p_expected` -2), or is at a version. */
const takeOfOld = (s: string, count: string, expected: string = 'p_expected'): string => `
      update ${s}.es_streams as s set version = s.version + ${count}, last_at = greatest(s.last_at, ${NOW})
        where s.stream = k and s.state = 0 and (${expected} = -2 or s.version = ${expected})
        returning s.version, s.last_at`

/**
 * Takes the next `p_count` versions of a stream and its row lock: -1 any, -2 exists, else the version expected. An append
 * to any version waits for its turn here and goes on. Gives no version when the stream is not so, and what it is.
 */
export const reserve = (s: string): string => `
create function ${s}.es_reserve(p_name text, p_expected int, p_count int,
  out o_version int, out o_at timestamptz, out o_actual int, out o_state int)
language plpgsql as $holdfast$
declare
  k constant text collate "C" := ${s}.es_key(p_name);
begin
  loop
    if p_expected = -1 then ${takeOfAny(s, 'p_count')} into o_version, o_at;
    elsif p_expected = 0 then ${takeOfNew(s, 'p_count')} into o_version, o_at;
    else ${takeOfOld(s, 'p_count')} into o_version, o_at;
    end if;
    exit when o_version is not null;
    select s.version, s.state into o_actual, o_state from ${s}.es_streams as s where s.stream = k;
    o_actual := coalesce(o_actual, 0);
    o_state := coalesce(o_state, 0);
    -- It may have become what is expected since: then once more.
    exit when o_state <> 0 or (p_expected = -2 and o_actual = 0) or (p_expected >= 0 and o_actual <> p_expected);
  end loop;
end $holdfast$`

/** Milliseconds since 1970, of a time of which no more is kept. As float8: `extract` gives a numeric since PostgreSQL 14, which takes ten times as long. */
export const millis = (column: string): string => `(date_part('epoch', ${column}) * 1000)::bigint`

/** The sequence's oid: the class of this log's advisory locks. It is this log's own, whatever else the database holds. */
const lockClass = (s: string): string => marks.lockClass(`${s}.es_pos`)
/** The position drawn last, 0 before the first. */
export const lastPosition = (s: string): string => marks.lastDrawn(`${s}.es_pos`)

/** Marks this transaction as a writer, once, before it draws its first position. In a function that has declared `c`. */
const marked = (s: string): string => `
  if coalesce(current_setting('holdfast.mark_' || c, true), '') = '' then
    perform ${marks.MARK_WRITER},
      set_config('holdfast.mark_' || c, '1', true) -- local: it goes with the lock, also at a savepoint
      from ${s}.es_pos;
  end if;`

/** Tags that one transaction locks one by one; with more of them it locks the whole log for a moment. */
const MOST_LOCKS = 64

/**
 * Locks what conditions and the events they are about meet in: writers share the tags of their events, a condition has one of
 * its tags for itself (every event it picks carries all of them), or the whole log if it has none. In one order, so that nobody
 * waits in a circle; before anything else, so that what is seen after it is what counts.
 */
export const guard = (s: string): string => `
create function ${s}.es_guard(p_shared text[], p_own text[]) returns void language plpgsql as $holdfast$
declare
  c constant bigint := ${lockClass(s)}::bigint;
  r record;
begin
  if array_position(p_own, null) is not null or cardinality(p_shared) + cardinality(p_own) > ${MOST_LOCKS} then
    perform pg_advisory_xact_lock(hashtextextended('', c));
    return;
  end if;
  perform pg_advisory_xact_lock_shared(hashtextextended('', c));
  for r in
    select hashtextextended(t.tag, c) as k, bool_or(t.own) as own
      from (select unnest(p_shared) as tag, false as own union all select unnest(p_own), true) t group by 1 order by 1
  loop
    if r.own then perform pg_advisory_xact_lock(r.k); else perform pg_advisory_xact_lock_shared(r.k); end if;
  end loop;
end $holdfast$`

/** What takes the locks for events without tags (`p_tags` null), or with them. */
const guarded = (s: string): string => `
  if p_tags is null then
    perform pg_advisory_xact_lock_shared(hashtextextended('', c));
  else
    perform ${s}.es_guard(${tagsOf('p_tags')}, '{}');
  end if;`

/** Tags of events, each once. */
const tagsOf = (events: string): string =>
  `array(select distinct t from unnest(${events}) j, json_array_elements_text(j::json) t where j is not null)`

/**
 * One call, one or several streams, all or nothing. Rows are locked in the order of names, positions drawn under those
 * locks, so the order in a stream is the order of positions. Arrays with one element per stream: names, expected, counts;
 * per event: of (which stream), nth (in it, from 1), types, data, meta, tags (JSON or null), ids.
 *
 * Gives one row per event (status 'ok'), in the order given, or one that says what stands in the way: 'duplicate', or 'refused' with the
 * stream (of), its version and its state (pos).
 */
export const append = (s: string): string => `
create or replace function ${s}.es_append(p_key text, p_names text[], p_expected int[], p_counts int[],
  p_of int[], p_nth int[], p_types text[], p_data text[], p_meta text[], p_tags text[], p_ids text[])
returns table (status text, of_stream int, version int, pos bigint, at timestamptz)
language plpgsql as $holdfast$
#variable_conflict use_column
declare
  i int;
  r record;
  v_refused int;
  v_versions int[];
  v_ats timestamptz[];
  c constant bigint := ${lockClass(s)}::bigint;
begin${guarded(s)}
  if p_key is not null then
    insert into ${s}.es_keys (key, at) values (${s}.es_key(p_key), clock_timestamp()) on conflict (key) do nothing;
    if not found then
      return query select 'duplicate', 0, 0, 0::bigint, clock_timestamp();
      return;
    end if;
  end if;
  if cardinality(p_names) = 1 then
    select * into r from ${s}.es_reserve(p_names[1], p_expected[1], p_counts[1]);
    if r.o_version is null then v_refused := 1; end if;
    v_versions[1] := r.o_version;
    v_ats[1] := r.o_at;
    if v_refused is not null and p_key is not null then
      delete from ${s}.es_keys where key = ${s}.es_key(p_key);
    end if;
  else
    begin
      for i in select o from unnest(p_names) with ordinality as n (name, o) order by ${s}.es_key(name) collate "C" loop
        select * into r from ${s}.es_reserve(p_names[i], p_expected[i], p_counts[i]);
        if r.o_version is null then
          v_refused := i;
          raise exception using errcode = 'HF409';
        end if;
        v_versions[i] := r.o_version;
        v_ats[i] := r.o_at;
      end loop;
    exception when sqlstate 'HF409' then -- undoes the reservations; the caller's transaction lives on
      if p_key is not null then delete from ${s}.es_keys where key = ${s}.es_key(p_key); end if;
    end;
  end if;
  if v_refused is not null then
    return query select 'refused', v_refused, r.o_actual, r.o_state::bigint, clock_timestamp();
    return;
  end if;${marked(s)}${written(s, 'p_key is null', keysOfOne(s))}
end $holdfast$`

/** Fills in what a key's append came to: streams, versions, positions. */
const keysOfOne = (s: string): string => `
    update ${s}.es_keys set names = p_names, counts = p_counts, versions = v_versions, positions =
      (select array_agg(l.p order by l.f) from (select d.f, max(d.p) as p from drawn d group by d.f) l)
    where p_key is not null and key = ${s}.es_key(p_key)`
/** As {@link keysOfOne}, for the appends of a batch. */
const keysOfMany = (s: string): string => `
    update ${s}.es_keys k set names = array[l.name], counts = array[l.count], versions = array[l.v], positions = array[l.p]
    from (
      select d.f, p_names[d.f] as name, p_counts[d.f] as count, v_versions[d.f] as v, max(d.p) as p from drawn d
      where p_keys[d.f] is not null group by d.f
    ) l where k.key = ${s}.es_key(p_keys[l.f])`

/**
 * Writes the events whose stream has a version (`v_versions`), and gives a row for each, in order. Most have no tags and no key:
 * for them it is one plain INSERT.
 */
const written = (s: string, keyless: string, keyed: string): string => `
  if p_tags is null and ${keyless} then
    return query insert into ${s}.es_events (pos, stream, version, type, data, meta, id, at)
      select nextval(${sqlLiteral(`${s}.es_pos`)}), ${s}.es_key(p_names[e.f]), v_versions[e.f] - p_counts[e.f] + e.n,
        e.type, e.data::json, e.meta::json, e.id, v_ats[e.f]
      from unnest(p_of, p_nth, p_types, p_data, p_meta, p_ids) as e (f, n, type, data, meta, id)
      where v_versions[e.f] is not null
      returning 'ok', 0, version, pos, at;
    return;
  end if;
  return query
  with drawn as materialized (
    select e.*, nextval(${sqlLiteral(`${s}.es_pos`)}) as p, v_versions[e.f] - p_counts[e.f] + e.n as v, v_ats[e.f] as a
    from unnest(p_of, p_nth, p_types, p_data, p_meta, p_tags, p_ids) as e (f, n, type, data, meta, tags, id)
    where v_versions[e.f] is not null
  ), stored as (
    insert into ${s}.es_events (pos, stream, version, type, data, meta, tags, id, at)
    select d.p, ${s}.es_key(p_names[d.f]), d.v, d.type, d.data::json, d.meta::json, d.tags::json, d.id, d.a from drawn d
  ), tagged as (
    insert into ${s}.es_tags (tag, pos)
    select distinct ${s}.es_key(t), d.p from drawn d, json_array_elements_text(d.tags::json) t where d.tags is not null
  ), keyed as (${keyed}
  )
  select 'ok', 0, d.v, d.p, d.a from drawn d order by d.p;`

/** Where the last event above a position stands that has any of the types and all of the tags (null: no condition). */
export const lastMatch = (s: string): string => `
create function ${s}.es_last_match(p_after bigint, p_types text[], p_tags text[]) returns bigint language plpgsql as $holdfast$
begin
  if p_tags is null then
    return (select e.pos from ${s}.es_events e where e.pos > p_after and (p_types is null or e.type = any(p_types))
      order by e.pos desc limit 1);
  end if;
  return (select t.pos from ${s}.es_tags t where t.tag = ${s}.es_key(p_tags[1]) and t.pos > p_after
    and (select bool_and(exists (select from ${s}.es_tags o where o.tag = ${s}.es_key(n) and o.pos = t.pos)) from unnest(p_tags) n)
    and (p_types is null or exists (select from ${s}.es_events e where e.pos = t.pos and e.type = any(p_types)))
    order by t.pos desc limit 1);
end $holdfast$`

/**
 * {@link append} unless a condition is broken. `p_unless`: one per stream, or null: `[{after, items: [{types, tags}]}]`. Of a broken
 * one gives 'refused' with its number, negative, and (pos) where the last event stands that breaks it; of one whose `after` is beyond the
 * end of the log likewise, with that end.
 */
export const appendIf = (s: string): string => `
create or replace function ${s}.es_append_if(p_unless json, p_key text, p_names text[], p_expected int[], p_counts int[],
  p_of int[], p_nth int[], p_types text[], p_data text[], p_meta text[], p_tags text[], p_ids text[])
returns table (status text, of_stream int, version int, pos bigint, at timestamptz)
language plpgsql as $holdfast$
#variable_conflict use_column
declare
  r record;
  v_last bigint;
begin
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
    raise exception 'a condition (unless) can only be checked at READ COMMITTED, not at %', current_setting('transaction_isolation');
  end if;
  perform ${s}.es_guard(${tagsOf('p_tags')}, array(
    select i -> 'tags' ->> 0 from json_array_elements(p_unless) u, json_array_elements(u -> 'items') i where json_typeof(u) = 'object'));
  if p_key is not null and exists (select from ${s}.es_keys k where k.key = ${s}.es_key(p_key)) then
    return query select 'duplicate', 0, 0, 0::bigint, clock_timestamp();
    return;
  end if;
  v_last := (${lastPosition(s)});
  for r in
    select u.o::int as o, case when max((u.c ->> 'after')::bigint) > v_last then v_last else max(m.pos) end as last from json_array_elements(p_unless) with ordinality as u (c, o)
      cross join lateral json_array_elements(u.c -> 'items') i
      cross join lateral (
        select ${s}.es_last_match((u.c ->> 'after')::bigint,
          case when i -> 'types' is not null then array(select json_array_elements_text(i -> 'types')) end,
          case when i -> 'tags' is not null then array(select json_array_elements_text(i -> 'tags')) end) as pos
      ) m
      where json_typeof(u.c) = 'object' group by u.o order by u.o
  loop
    if r.last is not null then
      return query select 'refused', -r.o, 0, r.last, clock_timestamp();
      return;
    end if;
  end loop;
  return query select * from ${s}.es_append(p_key, p_names, p_expected, p_counts, p_of, p_nth, p_types, p_data, p_meta, p_tags, p_ids);
end $holdfast$`

/** The event of {@link appendOne}, in the stream and at the version that `taken` gives, if it gives one. */
const writeOne = (s: string, taken: string): string => `
    with t as (${taken})
    insert into ${s}.es_events (pos, stream, version, type, data, meta, id, at)
      select nextval(${sqlLiteral(`${s}.es_pos`)}), k, t.version, p_type, p_data::json, p_meta::json, p_id, t.last_at from t
      returning version, pos, at into o_version, o_pos, o_at`

/**
 * {@link append} for what is most common, in its own transaction: one event without tags to one stream. It marks itself a writer
 * before it may have to wait for the stream: whoever it waits for has a lower mark.
 */
export const appendOne = (s: string): string => `
create function ${s}.es_append_one(p_key text, p_name text, p_expected int, p_type text, p_data text, p_meta text, p_id text,
  out o_status text, out o_version int, out o_pos bigint, out o_at timestamptz)
language plpgsql as $holdfast$
declare
  c constant bigint := ${lockClass(s)}::bigint;
  k constant text collate "C" := ${s}.es_key(p_name);
  r record;
begin
  perform pg_advisory_xact_lock_shared(hashtextextended('', c)), ${marks.MARK_WRITER} from ${s}.es_pos;
  if p_key is not null then
    insert into ${s}.es_keys (key, at) values (${s}.es_key(p_key), clock_timestamp()) on conflict (key) do nothing;
    if not found then
      o_status := 'duplicate';
      return;
    end if;
  end if;
  if p_expected = -1 then ${writeOne(s, takeOfAny(s, '1'))};
  elsif p_expected = 0 then ${writeOne(s, takeOfNew(s, '1'))};
  else ${writeOne(s, takeOfOld(s, '1'))};
  end if;
  if o_version is null then
    select * into r from ${s}.es_reserve(p_name, p_expected, 1); -- says why, or finds it as expected by now
    if r.o_version is null then
      if p_key is not null then delete from ${s}.es_keys where key = ${s}.es_key(p_key); end if;
      o_status := 'refused';
      o_version := r.o_actual;
      o_pos := r.o_state;
      return;
    end if;
    ${writeOne(s, 'select r.o_version as version, r.o_at as last_at')};
  end if;
  o_status := 'ok';
  if p_key is not null then
    update ${s}.es_keys set names = array[p_name], counts = array[1], versions = array[o_version], positions = array[o_pos]
      where key = ${s}.es_key(p_key);
  end if;
end $holdfast$`

/**
 * Many appends at once, of one stream each, every one for itself: a refused one stops no other. As {@link append}, with a key
 * (or null) per append, and the number of an append for `of`. A key must not be there twice.
 */
export const appendMany = (s: string): string => `
create function ${s}.es_append_many(p_keys text[], p_names text[], p_expected int[], p_counts int[],
  p_of int[], p_nth int[], p_types text[], p_data text[], p_meta text[], p_tags text[], p_ids text[])
returns table (status text, of_stream int, version int, pos bigint, at timestamptz)
language plpgsql as $holdfast$
#variable_conflict use_column
declare
  i int;
  n record;
  k text collate "C";
  v_version int;
  v_at timestamptz;
  r record;
  v_repeated boolean[] := '{}';
  v_versions int[] := '{}';
  v_ats timestamptz[] := '{}';
  v_any boolean := false;
  v_keyed boolean := false;
  c constant bigint := ${lockClass(s)}::bigint;
begin${guarded(s)}
  for i in select o from unnest(p_keys) with ordinality as k (key, o) where key is not null order by ${s}.es_key(key) collate "C" loop
    v_keyed := true;
    insert into ${s}.es_keys (key, at) values (${s}.es_key(p_keys[i]), clock_timestamp()) on conflict (key) do nothing;
    if not found then
      v_repeated[i] := true;
      return query select 'duplicate', i, 0, 0::bigint, clock_timestamp();
    end if;
  end loop;
  for n in select o::int as i, name, ${s}.es_key(name) collate "C" as k from unnest(p_names) with ordinality as n (name, o) order by k, i loop
    i := n.i;
    continue when v_repeated[i];
    k := n.k;
    v_version := null;
    if p_expected[i] = -1 then ${takeOfAny(s, 'p_counts[i]', 'n.name')} into v_version, v_at;
    elsif p_expected[i] = 0 then ${takeOfNew(s, 'p_counts[i]', 'n.name')} into v_version, v_at;
    else ${takeOfOld(s, 'p_counts[i]', 'p_expected[i]')} into v_version, v_at;
    end if;
    if v_version is null then
      select * into r from ${s}.es_reserve(n.name, p_expected[i], p_counts[i]); -- says why, or finds it as expected by now
      v_version := r.o_version;
      v_at := r.o_at;
    end if;
    if v_version is null then
      if p_keys[i] is not null then delete from ${s}.es_keys where key = ${s}.es_key(p_keys[i]); end if;
      return query select 'refused', i, r.o_actual, r.o_state::bigint, clock_timestamp();
    else
      v_any := true;
      v_versions[i] := v_version;
      v_ats[i] := v_at;
    end if;
  end loop;
  if not v_any then return; end if;${marked(s)}${written(s, 'not v_keyed', keysOfMany(s))}
end $holdfast$`

/** A call of one of them; its parameters in the order of the definition. */
export function appendSql(s: string, name: 'es_append' | 'es_append_if' | 'es_append_many' | 'es_append_one'): string {
  if (name === 'es_append_one')
    return `select o_status as status, 1 as of_stream, o_version as version, o_pos as pos, ${millis('o_at')} as at
      from ${s}.es_append_one($1, $2, $3, $4, $5, $6, $7)`
  const first = { es_append: '$1', es_append_if: '$1::json, $2', es_append_many: '$1::text[]' }[name]
  const from = name === 'es_append_if' ? 3 : 2
  const types = ['text[]', 'int[]', 'int[]', 'int[]', 'int[]', 'text[]', 'lines', 'lines', 'text[]', 'text[]']
  const rest = types.map((type, i) =>
    type === 'lines' ? `string_to_array($${from + i}, e'\\n', '')` : `$${from + i}::${type}`,
  )
  return `select status, of_stream, version, pos, ${millis('at')} as at from ${s}.${name}(${[first, ...rest].join(', ')})`
}
