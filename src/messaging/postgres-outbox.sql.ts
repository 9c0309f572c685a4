import { lockClass, MARK_WRITER, settledFunction } from '../kernel/postgres-marks.js'
import { sqlLiteral } from '../kernel/postgres-schema.js'

/** Partitions of an outbox of whose number nothing was said. */
export const USUAL_PARTITIONS = 8
/** Most messages in one batch of a transaction: what a relay must read from its start. */
export const MOST_IN_BATCH = 1_000
/** Keys that one transaction locks one by one; with more of them it locks all for the moment of its commit. */
const MOST_LOCKS = 64

const now = `floor(extract(epoch from clock_timestamp()) * 1000)::float8`
const declared = (s: string): string => `
  c constant bigint := ${lockClass(`${s}.outbox_pos`)}::bigint;
  v_name constant text := 'holdfast.outbox_' || c;
  v_noted constant text := coalesce(current_setting(v_name, true), '');`

/**
 * Writes messages in the caller's transaction, and notes in a setting that is local to it what its commit has to do: batches, messages in
 * the last one, partitions, and the locks of the keys ('all': too many). The note goes with the transaction and with its savepoints; nothing
 * has to be read again, which would make any two such transactions collide at SERIALIZABLE.
 */
const put = (s: string, partitions: number): string => `
create function ${s}.outbox_put(p_ids text[], p_types text[], p_keys text[], p_at float8[], p_texts text[]) returns void
language plpgsql as $holdfast$
declare${declared(s)}
  v_batches bigint[] := '{}';
  v_count int := 0;
  v_partitions int[] := '{}';
  v_locks bigint[] := '{}';
  v_batch bigint;
begin
  if v_noted <> '' then
    v_batches := split_part(v_noted, ' ', 1)::bigint[];
    v_count := split_part(v_noted, ' ', 2)::int;
    v_partitions := split_part(v_noted, ' ', 3)::int[];
    v_locks := nullif(split_part(v_noted, ' ', 4), 'all')::bigint[];
  end if;
  if v_noted = '' or v_count + cardinality(p_ids) > ${MOST_IN_BATCH} then
    v_batches := v_batches || nextval(${sqlLiteral(`${s}.outbox_batch`)});
    v_count := 0;
  end if;
  v_batch := v_batches[cardinality(v_batches)];
  v_partitions := array(
    select unnest(v_partitions) union
    select case when k is null then v_batch % ${partitions} else (hashtext(k) & 2147483647) % ${partitions} end::int from unnest(p_keys) k);
  if v_locks is not null then
    v_locks := array(select unnest(v_locks) union select hashtextextended(k, c) from unnest(p_keys) k where k is not null);
    if cardinality(v_locks) > ${MOST_LOCKS} then v_locks := null; end if;
  end if;
  perform set_config(v_name, concat_ws(' ', v_batches::text, v_count + cardinality(p_ids), v_partitions::text, coalesce(v_locks::text, 'all')), true);
  insert into ${s}.outbox_messages (batch, partition, nth, leads, id, type, key, at, text)
  select v_batch, case when m.key is null then v_batch % ${partitions} else (hashtext(m.key) & 2147483647) % ${partitions} end,
    v_count + m.o, m.o = 1, m.id, m.type, m.key, m.at, m.text
  from unnest(p_ids, p_types, p_keys, p_at, p_texts) with ordinality as m (id, type, key, at, text, o);
end $holdfast$`

/**
 * At the commit (or at SET CONSTRAINTS … IMMEDIATE): takes the locks of the keys, in one order, then a position. So of two transactions
 * with one key, the one that commits first has the lower position, and who sees the higher sees the lower one too. The locks come last
 * and are held while the commit is written: no transaction waits for them with something else to lock.
 */
const commit = (s: string): string => `
create function ${s}.outbox_commit() returns trigger language plpgsql as $holdfast$
declare${declared(s)}
  v_lock bigint;
begin
  if v_noted = '' then return null; end if;
  if split_part(v_noted, ' ', 4) = 'all' then
    perform pg_advisory_xact_lock(hashtextextended('', -c));
  elsif split_part(v_noted, ' ', 4) <> '{}' then
    perform pg_advisory_xact_lock_shared(hashtextextended('', -c));
    for v_lock in select l from unnest(split_part(v_noted, ' ', 4)::bigint[]) l order by l loop
      perform pg_advisory_xact_lock(v_lock);
    end loop;
  end if;
  perform ${MARK_WRITER} from ${s}.outbox_pos;
  insert into ${s}.outbox_commits (partition, pos, batch, at)
  select q.partition, nextval(${sqlLiteral(`${s}.outbox_pos`)}), q.batch, ${now} from (
    select p.partition, b.batch from unnest(split_part(v_noted, ' ', 1)::bigint[]) with ordinality as b (batch, o),
      unnest(split_part(v_noted, ' ', 3)::int[]) as p (partition) order by b.o
  ) q;
  perform set_config(v_name, '', true);
  return null;
end $holdfast$`

/** Renews and claims in turn with all others: each relay gets its share, what is left over stays with whoever has it until it gives. */
const lease = (s: string): string => `
create function ${s}.outbox_lease(p_id text, p_lease_ms float8, p_give int[])
returns table (partition int, epoch bigint, share int, next_ms float8) language plpgsql as $holdfast$
#variable_conflict use_column
declare
  c constant bigint := ${lockClass(`${s}.outbox_pos`)}::bigint;
  v_now float8;
  v_share int;
  v_mine int;
begin
  perform pg_advisory_xact_lock(hashtextextended('lease', -c));
  v_now := ${now};
  delete from ${s}.outbox_relays where until <= v_now and id <> p_id;
  insert into ${s}.outbox_relays as r (id, until) values (p_id, v_now + p_lease_ms) on conflict (id) do update set until = excluded.until;
  update ${s}.outbox_partitions set owner = null where owner = p_id and partition = any (p_give);
  update ${s}.outbox_partitions set until = v_now + p_lease_ms where owner = p_id;
  get diagnostics v_mine = row_count;
  select ceil((select count(*) from ${s}.outbox_partitions)::numeric / count(*)) into v_share from ${s}.outbox_relays;
  update ${s}.outbox_partitions set owner = p_id, epoch = epoch + 1, until = v_now + p_lease_ms where partition = any (array(
    select p.partition from ${s}.outbox_partitions p where p.owner is null or p.until <= v_now
    order by p.partition limit greatest(0, v_share - v_mine)));
  return query
    select p.partition, p.epoch, v_share, (select min(o.until) - v_now from ${s}.outbox_partitions o where o.owner <> p_id)
    from (select 1) one left join ${s}.outbox_partitions p on p.owner = p_id;
end $holdfast$`

/**
 * Always by the indexes: the statistics of a table that fills and empties are about another moment. What has no index, as a sequence, then
 * costs so much on paper that PostgreSQL would compile it.
 */
const BY_INDEX =
  'set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off'

/** As the first version read. */
const firstRead = (s: string): string => `
create function ${s}.outbox_read(p_partitions int[], p_after bigint, p_limit int)
returns table (partition int, pos bigint, batch bigint, nth int, id text, type text, key text, occurred_at float8, text text, lag_ms float8)
language plpgsql ${BY_INDEX} as $holdfast$
#variable_conflict use_column
begin
  return query
  with c as materialized (
    select c.partition, c.pos, c.batch, c.at from ${s}.outbox_commits c
    where c.pos > p_after and c.partition = any (p_partitions) order by c.pos limit p_limit
  )
  select c.partition, c.pos, c.batch, m.nth, m.id, m.type, m.key, m.at, m.text, ${now} - c.at
  from c left join lateral (
    select m.nth, m.id, m.type, m.key, m.at, m.text from ${s}.outbox_messages m
    where m.batch = c.batch and m.partition = c.partition order by m.nth limit p_limit
  ) m on true
  order by c.pos, m.nth limit p_limit;
end $holdfast$`

/** As the first version deleted: until they are replaced, processes that run it call this. */
const firstRemove = (s: string): string => `
create function ${s}.outbox_remove(p_batches bigint[], p_partitions int[], p_nths int[], p_commits bigint[]) returns void
language plpgsql ${BY_INDEX} as $holdfast$
begin
  delete from ${s}.outbox_messages m using unnest(p_batches, p_partitions, p_nths) as d (batch, partition, nth)
    where m.batch = d.batch and m.partition = d.partition and m.nth = d.nth;
  delete from ${s}.outbox_commits c using unnest(p_commits) as d (pos) where c.pos = d.pos;
end $holdfast$`

/**
 * A page: a row that says up to where all is settled, then what stands from a place on (a position, and a message in it), in its
 * order. What all messages of a commit share is one text, the same for each: position, batch, partition, milliseconds since, when. A commit of
 * which no message is left has a row without one. What is settled is asked first, in a statement of its own: so what follows sees all of
 * it, at READ COMMITTED. At other levels it would not, and nothing counts as settled. Without a whole sort PostgreSQL reads no more
 * commits than the page takes.
 */
const page = (s: string): string => `
create or replace function ${s}.outbox_page(p_partitions int[], p_pos bigint, p_nth int, p_limit int)
returns table (commit text, nth int, id text, type text, key text, occurred_at float8, text text)
language plpgsql ${BY_INDEX} set enable_sort = off as $holdfast$
#variable_conflict use_column
declare
  v_settled bigint := 0;
  v_now float8;
begin
  if current_setting('transaction_isolation') = 'read committed' then v_settled := ${s}.outbox_settled(); end if;
  v_now := ${now};
  commit := v_settled;
  return next;
  return query
  select c.shared, m.nth, m.id, m.type, m.key, m.at, m.text
  from (
    select c.pos, c.batch, c.partition, concat_ws(' ', c.pos, c.batch, c.partition, v_now - c.at, c.at) as shared from ${s}.outbox_commits c
    where c.pos >= p_pos and c.partition = any (p_partitions) order by c.pos limit p_limit
  ) c left join lateral (
    select m.nth, m.id, m.type, m.key, m.at, m.text from ${s}.outbox_messages m
    where m.batch = c.batch and m.partition = c.partition and m.nth > case when c.pos = p_pos then p_nth else 0 end
    order by m.nth limit p_limit
  ) m on true
  order by c.pos, m.nth limit p_limit;
end $holdfast$`

/** As the second version deleted. */
const secondRemove = (s: string): string => `
create function ${s}.outbox_remove(p_batches bigint[], p_partitions int[], p_firsts int[], p_lasts int[], p_commits bigint[]) returns void
language plpgsql ${BY_INDEX} as $holdfast$
begin
  delete from ${s}.outbox_messages m using unnest(p_batches, p_partitions, p_firsts, p_lasts) as d (batch, partition, first, last)
    where m.batch = d.batch and m.partition = d.partition and m.nth between d.first and d.last;
  delete from ${s}.outbox_commits c using unnest(p_commits) as d (pos) where c.pos = d.pos;
end $holdfast$`

/**
 * Deletes messages (batch, partition, from one to another), and commits of which none is left: of commits at this position and of this
 * time, for a server that has forgotten some gives their positions and batches to others. Rows are looked up one by one: with a join, a
 * connection that planned it while the tables were empty would go on reading all of them for each run.
 */
const remove = (s: string): string => `
create function ${s}.outbox_remove(p_batches bigint[], p_partitions int[], p_firsts int[], p_lasts int[], p_positions bigint[],
  p_ats float8[], p_commits bigint[], p_commit_ats float8[]) returns void
language plpgsql ${BY_INDEX} as $holdfast$
begin
  delete from ${s}.outbox_messages where ctid = any (array(
    select m.ctid from unnest(p_batches, p_partitions, p_firsts, p_lasts, p_positions, p_ats) as d (batch, partition, first, last, pos, at),
      lateral (select 1 from ${s}.outbox_commits c where c.pos = d.pos and c.at = d.at offset 0) c,
      lateral (
        select m.ctid from ${s}.outbox_messages m
        where m.batch = d.batch and m.partition = d.partition and m.nth between d.first and d.last offset 0
      ) m));
  delete from ${s}.outbox_commits where ctid = any (array(
    select c.ctid from unnest(p_commits, p_commit_ats) as d (pos, at),
      lateral (select c.ctid from ${s}.outbox_commits c where c.pos = d.pos and c.at = d.at offset 0) c));
end $holdfast$`

const tables = (s: string, partitions: number): string[] => [
  `create sequence ${s}.outbox_pos`,
  `create sequence ${s}.outbox_batch cache 1`,
  `create table ${s}.outbox_messages (
    batch bigint, partition int, nth int, -- batch: what a transaction puts under one position
    leads boolean not null, -- the first of those put at once
    id text not null, type text not null, key text, at float8 not null, text text not null,
    primary key (batch, partition, nth)
  )`,
  `create table ${s}.outbox_commits (pos bigint primary key, partition int not null, batch bigint not null, at float8 not null)`,
  `create table ${s}.outbox_parked (
    no bigint primary key generated always as identity,
    id text not null, type text not null, key text, at float8 not null, text text not null,
    reason text not null, parked_at float8 not null
  )`,
  `create table ${s}.outbox_partitions (partition int primary key, owner text, epoch bigint not null default 0, until float8 not null default 0)`,
  `create table ${s}.outbox_relays (id text primary key, until float8 not null)`,
  `insert into ${s}.outbox_partitions (partition) select generate_series(0, ${partitions - 1})`,
]

/** What leads from each version of the tables to the next. */
export const outboxSteps = (s: string, partitions: number): readonly (readonly string[])[] => [
  [
    ...tables(s, partitions),
    settledFunction(`${s}.outbox_settled`, `${s}.outbox_pos`),
    put(s, partitions),
    commit(s),
    `create constraint trigger outbox_commit after insert on ${s}.outbox_messages
      deferrable initially deferred for each row when (new.leads) execute function ${s}.outbox_commit()`,
    lease(s),
    firstRead(s),
    firstRemove(s),
  ],
  [page(s), secondRemove(s)],
  [page(s), remove(s)],
]

/** Text of the statements. */
export const outboxStatements = (s: string) => ({
  put: `select ${s}.outbox_put($1::text[], $2::text[], $3::text[], $4::float8[], $5::text[])`,

  partitions: `select count(*)::int as count from ${s}.outbox_partitions`,

  lease: `select * from ${s}.outbox_lease($1, $2::float8, $3::int[])`,

  leave: `
    with gone as (delete from ${s}.outbox_relays where id = $1)
    update ${s}.outbox_partitions set owner = null where owner = $1`,

  page: `select * from ${s}.outbox_page($1, $2, $3, $4)`,

  remove: `select ${s}.outbox_remove($1, $2, $3, $4, $5, $6, $7, $8)`,

  park: `
    with m as (delete from ${s}.outbox_messages where batch = $1 and partition = $2 and nth = $3 and id = $5 returning *)
    insert into ${s}.outbox_parked (id, type, key, at, text, reason, parked_at) select id, type, key, at, text, $4, ${now} from m`,

  listParked: `select id, type, key, at, text, reason, parked_at from ${s}.outbox_parked order by no limit $1`,

  requeue: `
    with d as (delete from ${s}.outbox_parked where id = $1 returning *), a as (
      select array_agg(id order by no) as ids, array_agg(type order by no) as types, array_agg(key order by no) as keys,
        array_agg(at order by no) as at, array_agg(text order by no) as texts from d
    )
    select ${s}.outbox_put(ids, types, keys, at, texts) from a where ids is not null`,

  drop: `delete from ${s}.outbox_parked where id = $1 returning 1`,

  stats: `
    select (select count(*)::int from ${s}.outbox_messages) as waiting, (select count(*)::int from ${s}.outbox_parked) as parked,
      (select ${now} - c.at from ${s}.outbox_commits c order by c.pos limit 1) as lag_ms`,
})
