/**
 * Tables, in order, for a quoted schema name `s`. Times are milliseconds since 1970 by the server's clock, as JavaScript has them;
 * `Infinity` is never. `key` and `kind` are short enough for an index (`toSqlKey`).
 */
const tables = (s: string): string[] => [
  `create table ${s}.sagas (
    key text collate "C" primary key,
    no bigint not null generated always as identity, -- what its other rows know it by: a new saga of an old id has none of them
    id text, -- where key is a digest
    kind text collate "C" not null, -- version and name
    name text not null,
    version int not null,
    hash text not null,
    input text not null,
    deadline_ms float8,
    status smallint not null default 0,
    created_at float8 not null,
    updated_at float8 not null,
    epoch int not null,
    leased boolean not null,
    wake_at float8 not null, -- when its lease ends, or when it is due
    records int not null default 0,
    last_message int not null default 0,
    ended_at float8 -- null while somebody may still read what it is sent
  ) with (fillfactor = 70)`,
  `create index sagas_due on ${s}.sagas (kind, wake_at) where wake_at < 'Infinity'`,
  `create index sagas_parked on ${s}.sagas (key) where status = 5`,
  `create index sagas_ended on ${s}.sagas (ended_at) where ended_at is not null`,
  `create table ${s}.saga_records (no bigint, position int, record text not null, primary key (no, position))`,
  `create table ${s}.saga_inbox (no bigint, number int, kind text not null, name text not null, payload text not null, primary key (no, number))`,
  `create table ${s}.saga_dedupe (no bigint, id text collate "C", primary key (no, id))`,
  `create function ${s}.saga_now() returns float8 language sql volatile as
    $holdfast$ select floor(extract(epoch from clock_timestamp()) * 1000)::float8 $holdfast$`,
  `create function ${s}.saga_deliver(p_key text, p_kind text, p_name text, p_payload text, p_dedupe text) returns text
    language plpgsql as $holdfast$
  declare
    saga ${s}.sagas;
    message int;
  begin
    select * into saga from ${s}.sagas where key = p_key for update;
    if not found then return 'unknown'; end if;
    if saga.status = 3 or (saga.status = 4 and p_kind <> 'redrive') then return 'finished'; end if;
    if p_dedupe is not null then
      insert into ${s}.saga_dedupe values (saga.no, p_dedupe) on conflict do nothing;
      if not found then return 'duplicate'; end if;
    end if;
    update ${s}.sagas set
      last_message = last_message + 1,
      ended_at = null,
      wake_at = case when leased then wake_at else least(wake_at, ${s}.saga_now()) end
    where key = p_key returning last_message into message;
    insert into ${s}.saga_inbox values (saga.no, message, p_kind, p_name, p_payload);
    return 'delivered';
  end $holdfast$`,
]

/** What leads from each version of the tables to the next. */
export const steps = (s: string): readonly (readonly string[])[] => [tables(s)]

/** Text of the statements. */
export const statements = (s: string) => ({
  /** In the order of their keys, so that statements that create several never wait for each other in a circle. */
  create: `
    insert into ${s}.sagas (key, id, kind, name, version, hash, input, deadline_ms, created_at, updated_at, epoch, leased, wake_at)
    select c.key, c.id, c.kind, c.name, c.version, c.hash, c.input, c.deadline_ms, now, now,
      (c.lease_ms is not null)::int, c.lease_ms is not null, now + coalesce(c.lease_ms, 0)
    from ${s}.saga_now() as now,
      unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], string_to_array($7, E'\\n'), $8::float8[], $9::float8[])
        as c (key, id, kind, name, version, hash, input, deadline_ms, lease_ms)
    order by c.key collate "C"
    on conflict (key) do nothing
    returning key, created_at as now`,

  read: `
    select s.key, s.id, s.name, s.version, s.hash, s.input, s.deadline_ms, s.status, s.created_at, s.updated_at, s.epoch,
      s.last_message, ${s}.saga_now() as now,
      (select string_agg(r.record, ',' order by r.position) from ${s}.saga_records r where r.no = s.no) as journal,
      (select json_agg(json_build_array(i.number, i.kind, i.name, i.payload) order by i.number)::text
        from ${s}.saga_inbox i where i.no = s.no) as inbox
    from ${s}.sagas s where s.key = any ($1::text[])`,

  /** Takes what is due of each definition, longest due first; a row that is locked has another taker, or a transaction that is not over. */
  claim: `
    with now as materialized (select ${s}.saga_now() as now),
    due as materialized (
      select s.key, s.wake_at, s.leased
      from now, unnest($1::text[], $2::text[]) as d (kind, hash), lateral (
        select s.key, s.wake_at, s.leased from ${s}.sagas s
        where s.kind = d.kind and s.wake_at <= now.now and s.wake_at < 'Infinity' and s.hash = d.hash
        order by s.wake_at limit $3 for update skip locked
      ) s
      order by s.wake_at limit $3
    )
    update ${s}.sagas s set epoch = s.epoch + 1, leased = true, wake_at = now.now + $4
    from due, now where s.key = due.key
    returning s.key, s.epoch, due.leased as expired, due.wake_at`,

  /** Milliseconds until the next saga of these definitions may be due, and those that are due with another structure. */
  next: `
    with now as materialized (select ${s}.saga_now() as now)
    select 0 as kind, null::text as id, null::text as name, null::int as version, min(n.wake_at) - min(now.now) as due_in, min(now.now) as now
    from now left join (unnest($1::text[], $2::text[]) as d (kind, hash) cross join lateral (
      select s.wake_at from ${s}.sagas s
      where s.kind = d.kind and s.hash = d.hash and s.wake_at < 'Infinity' order by s.wake_at limit 1
    ) n) on true
    union all
    select 1, coalesce(s.id, s.key), s.name, s.version, null, null
    from now, unnest($1::text[], $2::text[]) as d (kind, hash), lateral (
      select s.id, s.key, s.name, s.version from ${s}.sagas s
      where s.kind = d.kind and s.hash <> d.hash and s.wake_at <= now.now and s.wake_at < 'Infinity' limit 100
    ) s`,

  /** Rows are locked in the order of their keys, so that statements that lock several never wait for each other in a circle. */
  renew: `
    with mine as materialized (
      select s.key from ${s}.sagas s, unnest($1::text[], $2::int[]) as l (key, epoch)
      where s.key = l.key and s.epoch = l.epoch and s.leased order by s.key for update of s
    )
    update ${s}.sagas s set wake_at = ${s}.saga_now() + $3 from mine where s.key = mine.key
    returning s.key, s.last_message`,

  /**
   * Each transition wholly or not at all; at most one of a saga. Rows are looked up one by one, in the order of their keys: with a join, a
   * connection that prepared the statement when the table was small would go on reading all of it. From the planner it is hidden how many there
   * are: for few it would make a plan of its own at each call, which takes longer than to carry it out.
   */
  commit: `
    with held as materialized (
      select t.*, s.no, s.epoch as held_epoch, s.records, s.leased, now,
        case
          when t.lease_ms is not null then now + t.lease_ms
          when s.last_message > t.seen and t.status <> 3 then now
          else t.due_at
        end as wake_at
      from ${s}.saga_now() as now, (
        select * from unnest((select $1::text[]), $2::int[], $3::int[], string_to_array($4, E'\\n'), $5::smallint[], $6::int[], $7::float8[], $8::float8[])
          with ordinality as t (key, epoch, position, record, status, seen, lease_ms, due_at, o)
        order by key collate "C"
      ) as t left join lateral (
        select s.no, s.epoch, s.records, s.leased, s.last_message from ${s}.sagas s where s.key = t.key for update
      ) as s on true
    ),
    fits as not materialized (
      select * from held where held_epoch = epoch and records = position and leased
    ),
    moved as (
      update ${s}.sagas s set
        status = f.status,
        updated_at = f.now,
        records = f.position + 1,
        leased = f.lease_ms is not null,
        wake_at = f.wake_at,
        ended_at = case when f.status in (3, 4) and f.wake_at = 'Infinity' then f.now end
      from fits f where s.key = f.key
    ),
    written as (
      insert into ${s}.saga_records (no, position, record) select no, position, record from fits
    ),
    consumed as (
      delete from ${s}.saga_inbox i using fits f, unnest($9::int[], $10::int[]) as c (o, number)
      where c.o = f.o and i.no = f.no and i.number = c.number
    )
    select o::int,
      held_epoch = epoch and ((records = position and leased) or (records > position and exists ( -- sent again
        select from ${s}.saga_records r where r.no = held.no and r.position = held.position and r.record = held.record
      ))) as ok,
      held_epoch = epoch and records > position as taken,
      case when records = position then wake_at - now end as due_in
    from held`,

  /** What somebody else wrote while it waited for the row it takes for another move: who reads the saga again sees what it is. */
  move: `
    with held as materialized (
      select s.*, now from ${s}.saga_now() as now, ${s}.sagas s where s.key = $1 for update of s
    ),
    says as materialized (
      select held.*, case
        when created_at <> $2::float8 then 'fenced'
        when exists ( -- sent again
          select from ${s}.saga_records r where r.no = held.no and r.position = $4 and right(r.record, length($8::text)) = $8::text
        ) then 'ok'
        when epoch <> $3 or records <> $4 then 'fenced'
        when leased and wake_at > now then 'owned'
        when leased and $9 then 'expired'
      end as refusal
      from held
    ),
    moved as (
      update ${s}.sagas s set kind = $5, version = $6, hash = $7, epoch = s.epoch + 1, records = s.records + 1,
        updated_at = says.now, wake_at = least(s.wake_at, says.now)
      from says where s.key = says.key and refusal is null
    ),
    recorded as (
      insert into ${s}.saga_records (no, position, record)
      select no, records, '{"at":' || now::bigint || $8::text from says where refusal is null
    )
    select coalesce(refusal, 'ok') as answer, refusal is null as moved from says`,

  list: `
    select coalesce(s.id, s.key) as id, s.name, s.version, s.status, s.created_at, s.updated_at from ${s}.sagas s
    where ($1::int is null or s.status = $1) and ($2::text is null or s.name = $2) and ($4::text is null or s.key > $4)
      and ($3::float8 is null or (s.status not in (3, 4) and ${s}.saga_now() - s.updated_at >= $3))
    order by s.key limit $5`,

  /** Deletes sagas that ended that long ago, and all that is theirs. The second parameter, if it is not null: of this key only. */
  sweep: `
    with gone as (
      delete from ${s}.sagas where key = any (array(
        select key from ${s}.sagas
        where ended_at <= ${s}.saga_now() - $1::float8 and ($2::text is null or key = $2)
        limit 1000 for update skip locked
      )) returning no
    ),
    records as (delete from ${s}.saga_records r using gone where r.no = gone.no),
    inbox as (delete from ${s}.saga_inbox i using gone where i.no = gone.no),
    dedupe as (delete from ${s}.saga_dedupe d using gone where d.no = gone.no)
    select count(*)::int as count from gone`,
})
