import { lowestMark } from '../kernel/postgres-marks.js'
import {
  append,
  appendIf,
  appendMany,
  appendOne,
  guard,
  lastMatch,
  lastPosition,
  millis,
  reserve,
} from './postgres-append.sql.js'

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

/**
 * A name as it stands in an index: up to 1,000 bytes as it is. No name that `toSqlText` gives begins with \x. Stable, as
 * `convert_to` is: an immutable one would not be inlined, and each call of it cost as much as an INSERT.
 */
const key = (s: string): string => `
create or replace function ${s}.es_key(p_name text) returns text stable language sql as $holdfast$
  select case when octet_length(p_name) <= 1000 then p_name
    else '\\x' || encode(sha256(convert_to(p_name, 'UTF8')), 'hex') end
$holdfast$`

/**
 * Up to where the log is settled, and the last position drawn by then. Not the kernel's `settledFunction`: databases have this one since
 * the first version, and processes of older versions call it.
 */
const horizon = (s: string): string => `
create function ${s}.es_horizon(out o_head bigint, out o_last bigint) language plpgsql as $holdfast$
declare
  v_low bigint;
begin
  o_last := (${lastPosition(s)});
  v_low := (${lowestMark('o_last', `${s}.es_pos`)});
  o_head := least(o_last, v_low);
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
  [...tables(s), key(s), reserve(s), horizon(s), remove(s)],
  // What the first version called (`es_mark`) stays: its appends that are under way meanwhile still call it.
  [...moreTables(s), key(s), guard(s), append(s), lastMatch(s), appendIf(s), appendOne(s), appendMany(s)],
]

/** An event's columns but for its stream. What is cast to text is so that no driver parses it; of numbers any form will do. */
export const EVENT_COLUMNS = `e.pos, e.version, e.type, e.data::text as data, e.meta::text as meta, e.tags::text as tags, e.id,
  ${millis('e.at')} as at`

/** The name of an event's stream, as a column. */
export const streamColumn = (s: string): string =>
  `case when left(e.stream, 2) = '\\x' then (select n.name from ${s}.es_streams n where n.stream = e.stream) else e.stream end as stream`
