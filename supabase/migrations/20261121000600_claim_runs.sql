-- Accepting runs: many in one statement, each with its own outcome.
--
-- Functions are versioned: a node with the binary before the last one goes on
-- calling the version it knows. They name every schema and set nothing for
-- themselves: a setting for each call costs about as much as a row.
set search_path = public, extensions;

-- settle_v1 sets up what is not set up yet, for the rest of the transaction. The
-- edge does it once for each connection; behind a transaction pooler there are
-- none to keep, and every function begins with it. A plan is kept while the
-- tables grow under it: one made over an empty table must not scan a full one.
create function agentedge.settle_v1() returns void language plpgsql set search_path = '' as $$
begin
  if current_setting('synchronous_commit') in ('off', 'local', 'remote_write') then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  perform set_config(name, value, true)
  from (values ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'),
    ('enable_mergejoin', 'off'), ('jit', 'off'), ('agentedge.settled', 'on')) s (name, value);
end
$$;

-- session_turns_v1 returns messages.seq of the newest turns that have an
-- assistant's text, oldest turn first: up to 128 turns and max_bytes bytes of
-- content, without a hole. A turn's place is its question's.
create function agentedge.session_turns_v1(session uuid, max_bytes integer) returns bigint[] language plpgsql as $$
#variable_conflict use_column
declare
  span integer := 32;  -- how many of the newest messages are looked at
  turns bigint[];
  whole boolean;
begin
  loop
    with recent as (
      select m.request_id, m.seq, m.role, octet_length(m.content) as bytes
      from public.messages m
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
-- transaction between looking and writing raises unique_violation or
-- serialization_failure, and the caller sends the batch again, careful, when the
-- ids and all sessions are looked up too.
--
-- outcomes are internal/run's Outcome: 0 claimed, 1 joined, 2 conflict, 3 limited,
-- 4 no session, 5 id taken. Their places are the claims', those of the limits'
-- figures the buckets'.
create function agentedge.claim_runs_v1(
  ids uuid[], kinds text[], endpoints text[], principals text[], owners text[], session_ids uuid[],
  keys text[], fingerprints bytea[], nodes text[], leases bigint[], trace_ids text[], requests text[],
  new_sessions boolean[], any_sessions boolean[], history_bytes integer[],
  own_buckets integer[], global_buckets integer[],  -- places in the buckets, 0 for none
  bucket_principals text[], bucket_endpoints text[], bucket_sizes integer[], bucket_asks integer[],
  message_ids uuid[], message_roles text[], message_contents text[], message_parts text[], message_calls text[],
  message_models text[], message_providers text[], message_usages text[], message_statuses text[],
  event_ids uuid[], event_types text[], event_datas text[],
  careful boolean,
  out outcomes integer[], out joined uuid[], out row_owners text[], out accepted_at timestamptz,
  out by_all boolean[],  -- of the limited: refused by the limit over all callers
  -- Of the limits: how many counted before, how many were taken, and in how many
  -- microseconds the oldest of those before leaves and one more fits.
  out useds integer[], out taken integer[], out resets bigint[], out retries bigint[]
) language plpgsql as $$
#variable_conflict use_column
declare
  n constant integer := cardinality(ids);
  m constant integer := cardinality(bucket_sizes);
  known boolean[] := array_fill(false, array[n]);  -- the session is there and the caller's
  strangers integer := 0;                          -- at most so many sessions are named and not there
  times bigint[];
  counts integer[];
  used integer;
  i integer;
  k integer;
  clocks bigint[];
  firsts integer[];         -- of a bucket's pairs those that still count and stay as they are
  lasts integer[];
  newest_times bigint[];    -- the pair that what is taken goes to
  newest_counts integer[];
  tight boolean;            -- not every bucket has room for all
  claimed integer := n;
  places integer[];
  found_ids uuid[];
  found_owners text[];
  good boolean[];
  free boolean[];
begin
  if current_setting('agentedge.settled', true) is distinct from 'on' then
    perform agentedge.settle_v1();
  end if;
  outcomes := array_fill(0, array[n]);
  joined := array_fill(null::uuid, array[n]);
  taken := array_fill(0, array[m]);
  by_all := array_fill(false, array[n]);
  row_owners := owners;
  accepted_at := now();

  -- 1. The limits: each row locked, then judged on the clock as it is now.
  -- Neighbours within half a second are one pair at the later time, so that there
  -- are never more than 122.
  while m > 0 loop
    select array_agg(b.k), array_agg(b.clock), array_agg(b.gone + 1), array_agg(b.size - b.merges::integer),
      array_agg(b.used), bool_or(b.used + bucket_asks[b.k] > bucket_sizes[b.k]), array_agg(b.times[b.gone + 1] + 60000000 - b.clock),
      array_agg(case when b.merges then greatest(b.times[b.size], b.clock) else b.clock end),
      array_agg(case when b.merges then b.counts[b.size] else 0 end)
    into places, clocks, firsts, lasts, useds, tight, resets, newest_times, newest_counts
    from (
      select l.k, l.times, l.counts, c.clock, g.gone, g.size,
        case when g.gone > 0 then l.used - (select sum(n) from unnest(l.counts[: g.gone]) n)::integer else l.used end as used,
        g.size > g.gone and l.times[g.size] / 500000 >= c.clock / 500000 as merges
      from generate_series(1, m) q (k)
      cross join lateral (  -- one after the other, in this order
        select q.k, r.times, r.counts, r.used
        from public.rate_limits r
        where r.principal = bucket_principals[q.k] and r.endpoint = bucket_endpoints[q.k]
        for no key update
      ) l
      cross join lateral (select (date_part('epoch', clock_timestamp()) * 1000000)::bigint as clock offset 0) c
      cross join lateral (select width_bucket(c.clock - 60000000, l.times) as gone, cardinality(l.times) as size offset 0) g
    ) b;
    k := coalesce(cardinality(places), 0);
    exit when k = m;
    -- The first time for some. Another transaction that was quicker has been waited
    -- for by now; its row must not be, by one that holds others.
    insert into public.rate_limits (principal, endpoint)
    select bucket_principals[k], bucket_endpoints[k]
    from generate_series(1, m) k
    where (k = any (places)) is not true
    on conflict do nothing;
    get diagnostics i = row_count;
    if i < m - k and k + i > 0 then
      raise serialization_failure using message = 'a limit was first used at the same time';
    end if;
  end loop;

  -- 2. The keys. One whose run ended more than 24 h ago is free.
  if num_nonnulls(variadic keys) > 0 then
    select array_agg(i), array_agg(r.id), array_agg(r.same), array_agg(r.free) into places, found_ids, good, free
    from generate_series(1, n) i cross join lateral (
      select r.id, r.fingerprint = fingerprints[i] as same, coalesce(r.finished_at < now() - interval '24 hours', false) as free
      from public.runs r
      where r.principal = principals[i] and r.endpoint = endpoints[i] and r.idempotency_key = keys[i]
      offset 0
    ) r;
    for k in 1 .. coalesce(cardinality(places), 0) loop
      if free[k] then
        update public.runs r set idempotency_key = null where r.id = found_ids[k];
      else
        outcomes[places[k]] := case when good[k] then 1 else 2 end;
        joined[places[k]] := case when good[k] then found_ids[k] end;
        claimed := claimed - 1;
      end if;
    end loop;
  end if;

  if careful then
    for i in 1 .. n loop
      if outcomes[i] = 0 and exists (select from public.runs r where r.id = ids[i]) then
        outcomes[i] := 5;
        claimed := claimed - 1;
      end if;
    end loop;
  end if;

  -- 3. The sessions that exist, locked against a delete.
  if careful or false = any (new_sessions) then
    select array_agg(l.i), array_agg(l.owner), array_agg(l.allowed) into places, found_owners, good
    from (
      select i, s.owner,
        any_sessions[i] or case when owners[i] is null then s.owner is null and s.principal = principals[i] else s.owner = owners[i] end as allowed
      from generate_series(1, n) i join public.sessions s on s.id = session_ids[i]
      where careful or not new_sessions[i]
      for key share of s
    ) l;
    for k in 1 .. coalesce(cardinality(places), 0) loop
      i := places[k];
      if good[k] then
        known[i] := true;
        row_owners[i] := found_owners[k];
      elsif outcomes[i] = 0 then
        outcomes[i] := 4;
        claimed := claimed - 1;
      end if;
    end loop;
    strangers := n - coalesce(cardinality(places), 0);
  end if;

  -- 4. Room in the limits, given in the order of the claims.
  if claimed = n and tight is not true then
    taken := bucket_asks;
  elsif m > 0 then
    for i in 1 .. n loop
      continue when outcomes[i] <> 0;
      k := own_buckets[i];
      if k > 0 and useds[k] + taken[k] >= bucket_sizes[k] then
        outcomes[i] := 3;
        claimed := claimed - 1;
        continue;
      end if;
      k := global_buckets[i];
      if k > 0 then
        if useds[k] + taken[k] >= bucket_sizes[k] then
          outcomes[i] := 3;
          by_all[i] := true;
          claimed := claimed - 1;
          continue;
        end if;
        taken[k] := taken[k] + 1;
      end if;
      k := own_buckets[i];
      if k > 0 then
        taken[k] := taken[k] + 1;
      end if;
    end loop;
  end if;

  -- 5. The runs, their sessions where those do not exist, and what comes with them.
  if claimed > 0 then
    insert into public.runs (
      id, kind, endpoint, principal, owner, session_id, idempotency_key, keyed, fingerprint, state,
      lease_node, lease_until, trace_id, request, history)
    select ids[i], kinds[i], endpoints[i], principals[i], row_owners[i], session_ids[i], keys[i], keys[i] is not null, fingerprints[i],
      'running', nodes[i], clock_timestamp() + leases[i] * interval '1 microsecond', trace_ids[i], requests[i]::json,
      case when known[i] and history_bytes[i] > 0 then agentedge.session_turns_v1(session_ids[i], history_bytes[i]) end
    from generate_series(1, n) i
    where outcomes[i] = 0;
    if true = any (new_sessions) and not careful then
      insert into public.sessions (id, owner, principal)
      select session_ids[i], owners[i], principals[i]
      from generate_series(1, n) i
      where outcomes[i] = 0 and new_sessions[i] and session_ids[i] is not null;
    end if;
    if strangers > 0 then
      insert into public.sessions (id, owner, principal)
      select session_ids[i], owners[i], principals[i]
      from generate_series(1, n) i
      where outcomes[i] = 0 and not known[i] and (careful or not new_sessions[i]) and session_ids[i] is not null
      on conflict do nothing;
      get diagnostics k = row_count;
      if k < strangers and exists (
        select from generate_series(1, n) i join public.sessions s on s.id = session_ids[i]
        where outcomes[i] = 0 and not known[i]
          and (s.owner is distinct from owners[i] or (owners[i] is null and s.principal <> principals[i]))
      ) then
        raise serialization_failure using message = 'a session was taken at the same time';
      end if;
    end if;
    insert into public.messages (
      id, session_id, request_id, owner, role, content, parts, tool_calls, model, provider, usage, status, trace_id)
    select message_ids[i], session_ids[i], ids[i], row_owners[i], message_roles[i], message_contents[i], message_parts[i]::json,
      message_calls[i]::json, message_models[i], message_providers[i], message_usages[i]::jsonb, message_statuses[i], trace_ids[i]
    from generate_series(1, n) i
    where outcomes[i] = 0 and message_ids[i] is not null;
    insert into public.bus_events (event_id, type, trace_id, request_id, session_id, owner, data)
    select event_ids[i], event_types[i], trace_ids[i], ids[i], session_ids[i], row_owners[i], event_datas[i]::jsonb
    from generate_series(1, n) i
    where outcomes[i] = 0 and event_ids[i] is not null;
  end if;

  -- 6. The limits again: what was taken of them, and how they stand.
  if m > 0 and claimed > 0 then
    update public.rate_limits l set
      times = l.times[firsts[k] : lasts[k]] || newest_times[k],
      counts = l.counts[firsts[k] : lasts[k]] || (newest_counts[k] + taken[k]),
      used = useds[k] + taken[k]
    from generate_series(1, m) k
    where taken[k] > 0 and l.principal = bucket_principals[k] and l.endpoint = bucket_endpoints[k];
  end if;
  if 3 = any (outcomes) then
    for k in 1 .. m loop
      select l.times, l.counts into times, counts
      from public.rate_limits l
      where l.principal = bucket_principals[k] and l.endpoint = bucket_endpoints[k];
      used := useds[k] + taken[k];
      i := case when taken[k] > 0 then 0 else firsts[k] - 1 end;
      while used >= bucket_sizes[k] and i < cardinality(times) loop
        i := i + 1;
        used := used - counts[i];
      end loop;
      retries[k] := times[i] + 60000000 - clocks[k];
    end loop;
  end if;
end
$$;

revoke execute on all functions in schema agentedge from public;
grant execute on function
  agentedge.settle_v1,
  agentedge.session_turns_v1,
  agentedge.claim_runs_v1
to service_role;
