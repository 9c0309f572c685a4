import { sqlLiteral } from '../kernel/postgres-schema.js'

/**
 * Tables and functions, in order, for a quoted schema name `s`.
 *
 * Data and metadata are `json`, not `jsonb`: `json` keeps the text as it was written (order of keys, "\u0000", long
 * numbers), is cheaper to write, and can still be queried in SQL. `jsonb` refuses "\u0000" and changes the rest.
 *
 * Names in `stream` and `tag` are short enough for an index: a longer one is its digest (`es_key`).
 */
export const tables = (s: string): string[] => [
  `create sequence ${s}.es_pos cache 1`,
  `create table ${s}.es_streams (
    stream text collate "C" primary key,
    name text, -- where stream is a digest
    version int not null,
    first int not null default 1,
    state smallint not null default 0, -- 0 live, 1 archived, 2 tombstoned
    last_at timestamptz not null
  ) with (fillfactor = 80)`,
  `create table ${s}.es_events (
    pos bigint primary key,
    stream text collate "C" not null,
    version int not null,
    type text not null,
    data json not null,
    meta json,
    tags json,
    id text not null,
    at timestamptz not null,
    unique (stream, version)
  )`,
  `create table ${s}.es_tags (tag text collate "C", pos bigint, primary key (tag, pos))`,
  `create table ${s}.es_keys (
    key text collate "C" primary key,
    at timestamptz not null,
    names text[],
    counts int[],
    versions int[],
    positions bigint[]
  )`,
  `create table ${s}.es_subscriptions (
    name text collate "C" primary key,
    pos bigint,
    owner text not null,
    epoch int not null,
    until timestamptz not null
  )`,
  `create table ${s}.es_parked (
    name text collate "C",
    pos bigint,
    parked json not null,
    primary key (name, pos)
  )`,
]

/** Second step: what may be lost, and the keys of personal data. */
const moreTables = (s: string): string[] => [
  `create table ${s}.es_snapshots (
    stream text collate "C",
    revision int,
    version int,
    state json not null,
    primary key (stream, revision, version)
  )`,
  // Of a shredded subject the row stays, without its key.
  `create table ${s}.es_subject_keys (subject text collate "C" primary key, key bytea)`,
]

/** A name as it stands in an index: up to 1,000 bytes as it is. No name that `toSqlText` gives begins with \x. */
const key = (s: string): string => `
create function ${s}.es_key(p_name text) returns text immutable language sql as $holdfast$
  select case when octet_length(p_name) <= 1000 then p_name
    else '\\x' || encode(sha256(convert_to(p_name, 'UTF8')), 'hex') end
$holdfast$`

/**
 * Takes the next `p_count` versions of a stream and its row lock: -1 any, -2 exists, else the version expected. An append
 * to any version waits for its turn here and goes on. Gives no version when the stream is not so, and what it is.
 */
const reserve = (s: string): string => `
create function ${s}.es_reserve(p_name text, p_expected int, p_count int,
  out o_version int, out o_at timestamptz, out o_actual int, out o_state int)
language plpgsql as $holdfast$
declare
  k constant text collate "C" := ${s}.es_key(p_name);
begin
  loop
    if p_expected = -1 then
      insert into ${s}.es_streams as s (stream, name, version, last_at)
        values (k, nullif(p_name, k), p_count, date_trunc('milliseconds', clock_timestamp()))
        on conflict (stream) do update set version = s.version + p_count,
          last_at = greatest(s.last_at, date_trunc('milliseconds', clock_timestamp()))
          where s.state = 0
        returning s.version, s.last_at into o_version, o_at;
    elsif p_expected = 0 then
      insert into ${s}.es_streams as s (stream, name, version, last_at)
        values (k, nullif(p_name, k), p_count, date_trunc('milliseconds', clock_timestamp()))
        on conflict (stream) do nothing
        returning s.version, s.last_at into o_version, o_at;
    else
      update ${s}.es_streams as s set version = s.version + p_count,
          last_at = greatest(s.last_at, date_trunc('milliseconds', clock_timestamp()))
        where s.stream = k and s.state = 0 and (p_expected = -2 or s.version = p_expected)
        returning s.version, s.last_at into o_version, o_at;
    end if;
    exit when o_version is not null;
    select s.version, s.state into o_actual, o_state from ${s}.es_streams as s where s.stream = k;
    o_actual := coalesce(o_actual, 0);
    o_state := coalesce(o_state, 0);
    -- It may have become what is expected since: then once more.
    exit when o_state <> 0 or (p_expected = -2 and o_actual = 0) or (p_expected >= 0 and o_actual <> p_expected);
  end loop;
end $holdfast$`

/** The sequence's oid: the class of this log's advisory locks. It is this log's own, whatever else the database holds. */
const lockClass = (s: string): string => `${sqlLiteral(`${s}.es_pos`)}::regclass::oid`
const lastPosition = (s: string): string => `select case when is_called then last_value else 0 end from ${s}.es_pos`

/**
 * Marks this transaction as a writer, once, before it draws its first position: a shared lock, which never waits, whose
 * key is the last position drawn so far. All it draws is above that key; what ends the transaction drops the mark.
 */
const mark = (s: string): string => `
create function ${s}.es_mark() returns void language plpgsql as $holdfast$
declare
  c constant bigint := ${lockClass(s)}::bigint;
  v_marked constant text := 'holdfast.mark_' || c;
  v_last bigint;
begin
  if coalesce(current_setting(v_marked, true), '') <> '' then return; end if;
  v_last := (${lastPosition(s)});
  perform pg_advisory_xact_lock_shared((case when c > 2147483647 then c - 4294967296 else c end)::int, (v_last & 2147483647)::int);
  perform set_config(v_marked, '1', true); -- local: it goes with the lock, also at a savepoint
end $holdfast$`

/**
 * Up to where the log is settled. In this order: (1) the last position drawn; (2) the lowest mark held. A position at or
 * below both was drawn before (1), so its writer's mark, which is lower, was there by then; as (2) does not see it, the
 * writer has ended, and PostgreSQL shows a commit before it drops the locks. A statement that starts after this one sees
 * it. The keys are the low 31 bits of positions; marks are never 2^30 apart.
 */
const horizon = (s: string): string => `
create function ${s}.es_horizon(out o_head bigint, out o_last bigint) language plpgsql as $holdfast$
declare
  v_low bigint;
begin
  o_last := (${lastPosition(s)});
  select min(o_last - (((o_last - l.objid::bigint + 1073741824) & 2147483647) - 1073741824)) into v_low
    from pg_locks l
    where l.locktype = 'advisory' and l.objsubid = 2 and l.classid = ${lockClass(s)}
      and l.database = (select d.oid from pg_database d where d.datname = current_database());
  o_head := least(o_last, v_low);
end $holdfast$`

/**
 * One call, one or several streams, all or nothing. Rows are locked in the order of names, positions drawn under those
 * locks, so the order in a stream is the order of positions. Arrays with one element per stream: names, expected, counts;
 * per event: of (which stream), nth (in it, from 1), types, data, meta, tags (JSON or null), ids.
 *
 * Gives one row per event (status 'ok'), or one that says what stands in the way: 'duplicate', or 'refused' with the
 * stream (of), its version and its state (pos).
 */
const append = (s: string): string => `
create function ${s}.es_append(p_key text, p_names text[], p_expected int[], p_counts int[],
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
begin
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
  end if;
  perform ${s}.es_mark();
  return query
  with drawn as materialized (
    select e.*, nextval(${sqlLiteral(`${s}.es_pos`)}) as p, v_versions[e.f] - p_counts[e.f] + e.n as v, v_ats[e.f] as a
    from unnest(p_of, p_nth, p_types, p_data, p_meta, p_tags, p_ids) as e (f, n, type, data, meta, tags, id)
  ), stored as (
    insert into ${s}.es_events (pos, stream, version, type, data, meta, tags, id, at)
    select d.p, ${s}.es_key(p_names[d.f]), d.v, d.type, d.data::json, d.meta::json, d.tags::json, d.id, d.a from drawn d
  ), tagged as (
    insert into ${s}.es_tags (tag, pos)
    select distinct ${s}.es_key(t), d.p from drawn d, json_array_elements_text(d.tags::json) t where d.tags is not null
  ), keyed as (
    update ${s}.es_keys set names = p_names, counts = p_counts, versions = v_versions, positions =
      (select array_agg(l.p order by l.f) from (select d.f, max(d.p) as p from drawn d group by d.f) l)
    where p_key is not null and key = ${s}.es_key(p_key)
  )
  select 'ok', d.f, d.v, d.p, d.a from drawn d order by d.p;
end $holdfast$`

/** Removes a stream's events below a version, sets its state (null: as it is). Gives the state before; null: unknown. */
const remove = (s: string): string => `
create function ${s}.es_remove(p_name text, p_before bigint, p_state int) returns int language plpgsql as $holdfast$
declare
  k constant text collate "C" := ${s}.es_key(p_name);
  v_state int;
begin
  if p_state = 2 then
    insert into ${s}.es_streams (stream, name, version, state, last_at) values (k, nullif(p_name, k), 0, 2, clock_timestamp())
      on conflict (stream) do nothing;
  end if;
  select s.state into v_state from ${s}.es_streams s where s.stream = k for update;
  if v_state is null or v_state = 2 then return v_state; end if;
  with gone as (
    delete from ${s}.es_events e where e.stream = k and e.version < p_before returning e.pos, e.tags
  )
  delete from ${s}.es_tags t using gone g, json_array_elements_text(g.tags) n
    where g.tags is not null and t.tag = ${s}.es_key(n) and t.pos = g.pos;
  update ${s}.es_streams s set state = coalesce(p_state, s.state), first = greatest(s.first, least(p_before, s.version + 1))
    where s.stream = k;
  return v_state;
end $holdfast$`

/** What brings a database up to date, step by step. Only ever add to the end. */
export const steps = (s: string): readonly (readonly string[])[] => [
  [...tables(s), ...[key, reserve, mark, horizon, append, remove].map((define) => define(s))],
  moreTables(s),
]

/** An event's columns, in forms that no type parser of a driver changes. */
export const columns = (
  s: string,
): string => `e.pos::text as pos, e.version::text as version, e.type, e.data::text as data,
  e.meta::text as meta, e.tags::text as tags, e.id, (extract(epoch from e.at) * 1000)::bigint::text as at,
  case when left(e.stream, 2) = '\\x' then (select n.name from ${s}.es_streams n where n.stream = e.stream) else e.stream end as stream`
