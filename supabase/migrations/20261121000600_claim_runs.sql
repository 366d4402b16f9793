-- Accepting runs: many in one statement, each with its own outcome.
--
-- Functions are versioned: a node with the binary before the last one goes on
-- calling the version it knows. They turn off the plans that a cached statement
-- would keep while a table that was empty at first grows under it.
set search_path = public, extensions;

-- session_turns_v1 returns messages.seq of the newest turns that have an
-- assistant's text, oldest turn first: up to 128 turns and max_bytes bytes of
-- content, without a hole. A turn's place is its question's.
create function agentedge.session_turns_v1(session uuid, max_bytes integer) returns bigint[]
  language plpgsql set search_path = public, pg_temp as $$
#variable_conflict use_column
declare
  span integer := 32;  -- how many of the newest messages are looked at
  turns bigint[];
  whole boolean;
begin
  loop
    with recent as (
      select m.request_id, m.seq, m.role, octet_length(m.content) as bytes
      from messages m
      where m.session_id = session
      order by m.seq desc
      limit span
    ), answered as (
      select
        min(r.seq) filter (where r.role = 'user') as asked,
        max(r.seq) filter (where r.role = 'assistant') as told,
        sum(r.bytes) as bytes
      from recent r
      where r.role = 'user' or (r.role = 'assistant' and r.bytes > 0)
      group by r.request_id
      having count(distinct r.role) = 2
    ), counted as (
      select a.asked, a.told,
        sum(a.bytes) over newest <= max_bytes and row_number() over newest <= 128 as fits
      from answered a
      window newest as (order by a.asked desc)
    )
    select
      (select array_agg(s.seq order by c.asked, s.seq)
        from counted c cross join lateral (values (c.asked), (c.told)) s (seq)
        where c.fits),
      exists (select from counted c where not c.fits) or (select count(*) from recent) < span
    into turns, whole;
    exit when whole;
    span := span * 4;
  end loop;
  return turns;
end
$$;

-- claim_runs_v1 decides about each claim in this order, the same everywhere, so
-- that two batches cannot wait for each other: the rows of the limits, the keys
-- and ids, the sessions. What is joined, in conflict or refused costs nothing of
-- a limit and writes nothing. The caller sorts the claims by (principal,
-- endpoint, key) and the limits ("buckets") by (principal, endpoint), and leaves
-- keys and ids that occur twice to another call in the same transaction.
--
-- It expects no race: one that loses a key, an id or a session to another
-- transaction between looking and writing raises serialization_failure, and the
-- caller sends the batch again, careful, when ids are looked up too.
--
-- outcome is internal/run's Outcome: 0 claimed, 1 joined, 2 conflict, 3 limited,
-- 4 no session, 5 id taken.
create function agentedge.claim_runs_v1(
  ids uuid[], kinds text[], endpoints text[], principals text[], owners text[], session_ids uuid[],
  keys text[], fingerprints bytea[], nodes text[], leases bigint[], trace_ids text[], requests text[],
  new_sessions boolean[], any_sessions boolean[], history_bytes integer[],
  own_buckets integer[], global_buckets integer[],  -- places in the buckets, 0 for none
  bucket_principals text[], bucket_endpoints text[], bucket_sizes integer[],
  message_ids uuid[], message_roles text[], message_contents text[], message_parts text[], message_calls text[],
  message_models text[], message_providers text[], message_usages text[], message_statuses text[],
  event_ids uuid[], event_types text[], event_datas text[],
  careful boolean
) returns table (
  place integer, outcome integer, row_owner text, accepted_at timestamptz,
  remaining integer, reset_us bigint, retry_us bigint, refused_by_all boolean, joined runs
) language plpgsql set search_path = public, pg_temp
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
#variable_conflict use_column
declare
  undecided constant integer := -1;
  n constant integer := cardinality(ids);
  decided integer[] := array_fill(undecided, array[n]);
  found_ids uuid[] := array_fill(null::uuid, array[n]);
  row_owners text[] := owners;
  known boolean[] := array_fill(false, array[n]);  -- the session is there and the caller's
  by_all boolean[] := array_fill(false, array[n]);
  buckets rate_limits[] := '{}';
  bucket rate_limits;
  clocks bigint[] := '{}';
  taken integer[] := '{}';
  remainings integer[] := '{}';
  resets bigint[] := '{}';
  retries bigint[] := '{}';
  c record;
  i integer;
  k integer;
  first integer;
  pending integer := 0;
  newcomers integer := 0;
  written integer;
  opened integer;
begin
  if current_setting('synchronous_commit') in ('off', 'local', 'remote_write') then
    perform set_config('synchronous_commit', 'on', true);
  end if;

  -- 1. The limits: each row locked, then judged on the clock as it is now.
  for k in 1 .. cardinality(bucket_sizes) loop
    loop
      select l.* into bucket from rate_limits l
      where l.principal = bucket_principals[k] and l.endpoint = bucket_endpoints[k]
      for no key update;
      exit when found;
      insert into rate_limits (principal, endpoint) values (bucket_principals[k], bucket_endpoints[k]) on conflict do nothing;
    end loop;
    clocks[k] := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
    first := 1;
    while first <= cardinality(bucket.times) and bucket.times[first] <= clocks[k] - 60000000 loop
      bucket.used := bucket.used - bucket.counts[first];
      first := first + 1;
    end loop;
    if first > 1 then
      bucket.times := bucket.times[first:];
      bucket.counts := bucket.counts[first:];
    end if;
    buckets[k] := bucket;
    taken[k] := 0;
  end loop;

  -- 2. The keys. One whose run ended more than 24 h ago is free.
  if num_nonnulls(variadic keys) > 0 then
    for c in
      select i as place, r.id, r.same, r.free
      from generate_series(1, n) i cross join lateral (
        select r.id, r.fingerprint = fingerprints[i] as same, coalesce(r.finished_at < now() - interval '24 hours', false) as free
        from runs r
        where r.principal = principals[i] and r.endpoint = endpoints[i] and r.idempotency_key = keys[i]
        offset 0
      ) r
    loop
      if c.free then
        update runs r set idempotency_key = null where r.id = c.id;
      else
        decided[c.place] := case when c.same then 1 else 2 end;
        found_ids[c.place] := c.id;
      end if;
    end loop;
  end if;

  if careful then
    for c in
      select i from generate_series(1, n) i
      where decided[i] = undecided and exists (select from runs r where r.id = ids[i])
    loop
      decided[c.i] := 5;
    end loop;
  end if;

  -- 3. The sessions that exist, locked against a delete.
  if false = any (new_sessions) then
    for c in
      select i as place, s.owner,
        any_sessions[i] or case when owners[i] is null then s.owner is null and s.principal = principals[i] else s.owner = owners[i] end as allowed
      from generate_series(1, n) i join sessions s on s.id = session_ids[i]
      where not new_sessions[i]
      for key share of s
    loop
      if c.allowed then
        known[c.place] := true;
        row_owners[c.place] := c.owner;
      elsif decided[c.place] = undecided then
        decided[c.place] := 4;
      end if;
    end loop;
  end if;

  -- 4. Room in the limits, given in the order of the claims.
  if cardinality(bucket_sizes) > 0 then
    for i in 1 .. n loop
      continue when decided[i] <> undecided;
      if own_buckets[i] > 0 and buckets[own_buckets[i]].used + taken[own_buckets[i]] >= bucket_sizes[own_buckets[i]] then
        decided[i] := 3;
      elsif global_buckets[i] > 0 and buckets[global_buckets[i]].used + taken[global_buckets[i]] >= bucket_sizes[global_buckets[i]] then
        decided[i] := 3;
        by_all[i] := true;
      else
        foreach k in array array[own_buckets[i], global_buckets[i]] loop
          continue when k = 0;
          taken[k] := taken[k] + 1;
        end loop;
      end if;
    end loop;
  end if;

  -- 5. The runs, their sessions where those do not exist, and what comes with them.
  for i in 1 .. n loop
    continue when decided[i] <> undecided;
    decided[i] := 0;
    pending := pending + 1;
    if not known[i] and session_ids[i] is not null then
      newcomers := newcomers + 1;
    end if;
  end loop;
  if pending > 0 then
    with runs_written as (
      insert into runs (
        id, kind, endpoint, principal, owner, session_id, idempotency_key, keyed, fingerprint, state,
        lease_node, lease_until, trace_id, request, history)
      select ids[i], kinds[i], endpoints[i], principals[i], row_owners[i], session_ids[i], keys[i], keys[i] is not null, fingerprints[i],
        'running', nodes[i], clock_timestamp() + leases[i] * interval '1 microsecond', trace_ids[i], requests[i]::json,
        case when known[i] and history_bytes[i] > 0 then agentedge.session_turns_v1(session_ids[i], history_bytes[i]) end
      from generate_series(1, n) i
      where decided[i] = 0
      on conflict do nothing
      returning id
    ), sessions_written as (
      insert into sessions (id, owner, principal)
      select session_ids[i], owners[i], principals[i]
      from generate_series(1, n) i
      where decided[i] = 0 and not known[i] and session_ids[i] is not null
      on conflict do nothing
      returning id
    ), messages_written as (
      insert into messages (
        id, session_id, request_id, owner, role, content, parts, tool_calls, model, provider, usage, status, trace_id)
      select message_ids[i], session_ids[i], ids[i], row_owners[i], message_roles[i], message_contents[i], message_parts[i]::json,
        message_calls[i]::json, message_models[i], message_providers[i], message_usages[i]::jsonb, message_statuses[i], trace_ids[i]
      from generate_series(1, n) i
      where decided[i] = 0 and message_ids[i] is not null
    ), events_written as (
      insert into bus_events (event_id, type, trace_id, request_id, session_id, owner, data)
      select event_ids[i], event_types[i], trace_ids[i], ids[i], session_ids[i], row_owners[i], event_datas[i]::jsonb
      from generate_series(1, n) i
      where decided[i] = 0 and event_ids[i] is not null
    )
    select (select count(*) from runs_written), (select count(*) from sessions_written) into written, opened;
    if written < pending or (opened < newcomers and exists (
      select from generate_series(1, n) i join sessions s on s.id = session_ids[i]
      where decided[i] = 0 and not known[i]
        and (s.owner is distinct from owners[i] or (owners[i] is null and s.principal <> principals[i])))
    ) then
      raise serialization_failure using message = 'a key, an id or a session was taken at the same time';
    end if;
  end if;

  -- 6. The limits again: what was taken of them, and how they stand. Neighbours
  -- within half a second become one pair at the later time, so that there are
  -- never more than 122.
  for k in 1 .. cardinality(bucket_sizes) loop
    bucket := buckets[k];
    i := cardinality(bucket.times);
    if taken[k] > 0 then
      if i > 0 and bucket.times[i] / 500000 >= clocks[k] / 500000 then
        bucket.times[i] := greatest(bucket.times[i], clocks[k]);
        bucket.counts[i] := bucket.counts[i] + taken[k];
      else
        bucket.times := bucket.times || clocks[k];
        bucket.counts := bucket.counts || taken[k];
      end if;
      bucket.used := bucket.used + taken[k];
      update rate_limits l set times = bucket.times, counts = bucket.counts, used = bucket.used
      where l.principal = bucket.principal and l.endpoint = bucket.endpoint;
    end if;
    remainings[k] := greatest(bucket_sizes[k] - bucket.used, 0);
    resets[k] := bucket.times[1] + 60000000 - clocks[k];
    i := 0;
    while bucket.used >= bucket_sizes[k] and i < cardinality(bucket.times) loop
      i := i + 1;
      bucket.used := bucket.used - bucket.counts[i];
    end loop;
    retries[k] := bucket.times[i] + 60000000 - clocks[k];
  end loop;

  return query
    select i, decided[i], row_owners[i], now(), remainings[own_buckets[i]], resets[own_buckets[i]],
      retries[case when by_all[i] then global_buckets[i] else own_buckets[i] end], by_all[i], r
    from generate_series(1, n) i left join runs r on r.id = found_ids[i];
end
$$;

revoke execute on all functions in schema agentedge from public;
grant execute on function
  agentedge.session_turns_v1,
  agentedge.claim_runs_v1
to service_role;
