-- What runs produce: segments, leases and ends. Every write is fenced by (run,
-- attempt, running). Callers sort by run id, and rows are locked in that order.
-- Rows are found through generate_series: the planner takes an unnest for 10 rows
-- and would read a small table's whole index for them, and go on when it is large.
set search_path = public, extensions;

-- append_segments_v1 stores what still belongs to the run's newest attempt and
-- tells for each segment whether it did. Only the lock on the run's row fences:
-- without it a takeover could commit between the check and the insert. A segment
-- that was stored before is replaced by a longer one from the same frame.
create function agentedge.append_segments_v1(
  run_ids uuid[], attempts integer[], firsts integer[], lasts integer[], datas bytea[]
) returns boolean[] language plpgsql as $$
#variable_conflict use_column
declare
  n constant integer := cardinality(run_ids);
  held boolean[] := array_fill(true, array[n]);
  places integer[];
  i integer;
begin
  if current_setting('agentedge.settled', true) is distinct from 'on' then
    perform agentedge.settle_v1();
  end if;
  select array_agg(l.i) into places
  from (
    select i
    from generate_series(1, n) i join public.runs r on r.id = run_ids[i] and r.attempt = attempts[i] and r.state = 'running'
    for share of r
  ) l;
  if places is null then
    return array_fill(false, array[n]);
  end if;
  if cardinality(places) < n then
    held := array_fill(false, array[n]);
    foreach i in array places loop
      held[i] := true;
    end loop;
  end if;
  insert into public.run_segments as s (run_id, attempt, first_seq, last_seq, data)
  select q.run_id, q.attempt, q.first_seq, q.last_seq, q.data
  from unnest(held, run_ids, attempts, firsts, lasts, datas) q (held, run_id, attempt, first_seq, last_seq, data)
  where q.held
  on conflict (run_id, attempt, first_seq) do update
    set last_seq = excluded.last_seq, data = excluded.data
    where excluded.last_seq > s.last_seq;
  return held;
end
$$;

-- finish_runs_v1 ends runs, with all that their ends bring, and tells for each
-- whether this end is now in the store: by this call or, told again, before.
create function agentedge.finish_runs_v1(
  ids uuid[], attempts integer[], states text[], last_seqs integer[], results text[], errors text[], free_keys boolean[],
  firsts integer[], lasts integer[], datas bytea[],
  message_ids uuid[], message_roles text[], message_contents text[], message_parts text[], message_calls text[],
  message_models text[], message_providers text[], message_usages text[], message_statuses text[],
  event_firsts integer[], event_lasts integer[],  -- places in the events
  event_ids uuid[], event_types text[], event_datas text[]
) returns boolean[] language plpgsql as $$
#variable_conflict use_column
declare
  n constant integer := cardinality(ids);
  done boolean[] := array_fill(true, array[n]);
  places integer[];
  i integer;
begin
  if current_setting('agentedge.settled', true) is distinct from 'on' then
    perform agentedge.settle_v1();
  end if;
  with ended as (
    update public.runs r set
      state = states[i], result = results[i]::json, error = errors[i]::json, last_seq = last_seqs[i],
      idempotency_key = case when free_keys[i] then null else r.idempotency_key end,
      answer_id = message_ids[i], lease_until = null, finished_at = clock_timestamp()
    from generate_series(1, n) i
    where r.id = ids[i] and r.attempt = attempts[i] and r.state = 'running'
    returning i, r.id, r.attempt, r.session_id, r.owner, r.trace_id
  ), messages_written as (
    insert into public.messages (
      id, session_id, request_id, owner, role, content, parts, tool_calls, model, provider, usage, status, trace_id)
    select message_ids[i], e.session_id, e.id, e.owner, message_roles[i], message_contents[i], message_parts[i]::json,
      message_calls[i]::json, message_models[i], message_providers[i], message_usages[i]::jsonb, message_statuses[i], e.trace_id
    from ended e
    where message_ids[i] is not null
  ), events_written as (
    insert into public.bus_events (event_id, type, trace_id, request_id, session_id, owner, data)
    select event_ids[v], event_types[v], e.trace_id, e.id, e.session_id, e.owner, event_datas[v]::jsonb
    from ended e cross join lateral generate_series(event_firsts[i], event_lasts[i]) v
  )
  select array_agg(e.i) into places from ended e;
  -- The runs are locked and over: what is stored of their logs is all there will
  -- be, so that looking is enough, and cheaper than "on conflict".
  insert into public.run_segments (run_id, attempt, first_seq, last_seq, data)
  select ids[i], attempts[i], firsts[i], lasts[i], datas[i]
  from unnest(places) i
  where datas[i] is not null and not exists (
    select from public.run_segments s where s.run_id = ids[i] and s.attempt = attempts[i] and s.first_seq = firsts[i]);
  get diagnostics i = row_count;
  if i < cardinality(places) then
    update public.run_segments s set last_seq = lasts[i], data = datas[i]
    from unnest(places) i
    where s.run_id = ids[i] and s.attempt = attempts[i] and s.first_seq = firsts[i] and s.last_seq < lasts[i];
  end if;
  if cardinality(places) = n then
    return done;
  end if;
  for i in 1 .. n loop
    done[i] := (i = any (places)) is true or exists (
      select from public.runs r
      where r.id = ids[i] and r.attempt = attempts[i] and r.state = states[i] and r.last_seq = last_seqs[i]);
  end loop;
  return done;
end
$$;

-- renew_runs_v1 renews leases that nobody has taken and the holder has not given
-- up, and tells for each whether it did. Losing a renewal in a crash of the
-- database loses nothing: no commit waits for it.
create function agentedge.renew_runs_v1(ids uuid[], attempts integer[], lease bigint) returns boolean[]
  language plpgsql as $$
#variable_conflict use_column
declare
  n constant integer := cardinality(ids);
  held boolean[] := array_fill(true, array[n]);
  places integer[];
  i integer;
begin
  if current_setting('agentedge.settled', true) is distinct from 'on' then
    perform agentedge.settle_v1();
  end if;
  perform set_config('synchronous_commit', 'off', true);
  with renewed as (
    update public.runs r set lease_until = clock_timestamp() + lease * interval '1 microsecond'
    from generate_series(1, n) i
    where r.id = ids[i] and r.attempt = attempts[i] and r.state = 'running' and r.lease_until is not null
    returning i
  )
  select array_agg(i) into places from renewed;
  if coalesce(cardinality(places), 0) < n then
    held := array_fill(false, array[n]);
    foreach i in array coalesce(places, '{}') loop
      held[i] := true;
    end loop;
  end if;
  return held;
end
$$;

revoke execute on all functions in schema agentedge from public;
grant execute on function
  agentedge.append_segments_v1,
  agentedge.finish_runs_v1,
  agentedge.renew_runs_v1
to service_role;
