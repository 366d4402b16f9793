-- What runs produce: segments, leases and ends. Every write is fenced by (run,
-- attempt, running). Callers sort by run id, and rows are locked in that order.
set search_path = public, extensions;

-- append_segments_v1 stores what still belongs to the run's newest attempt and
-- tells for each segment whether it did. Only the lock on the run's row fences:
-- without it a takeover could commit between the check and the insert. A segment
-- that was stored before is replaced by a longer one from the same frame.
create function agentedge.append_segments_v1(
  run_ids uuid[], attempts integer[], firsts integer[], lasts integer[], datas bytea[]
) returns boolean[] language plpgsql set search_path = public, pg_temp
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
#variable_conflict use_column
declare
  held boolean[] := array_fill(false, array[cardinality(run_ids)]);
  c record;
begin
  if current_setting('synchronous_commit') in ('off', 'local', 'remote_write') then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  for c in
    select q.place
    from unnest(run_ids, attempts) with ordinality q (run_id, attempt, place)
    join runs r on r.id = q.run_id and r.attempt = q.attempt and r.state = 'running'
    for share of r
  loop
    held[c.place] := true;
  end loop;
  insert into run_segments as s (run_id, attempt, first_seq, last_seq, data)
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
  event_places integer[], event_ids uuid[], event_types text[], event_datas text[]  -- event_places: which finish
) returns boolean[] language plpgsql set search_path = public, pg_temp
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
#variable_conflict use_column
declare
  done boolean[] := array_fill(false, array[cardinality(ids)]);
  c record;
begin
  if current_setting('synchronous_commit') in ('off', 'local', 'remote_write') then
    perform set_config('synchronous_commit', 'on', true);
  end if;
  for c in
    with ended as (
      update runs r set
        state = states[i], result = results[i]::json, error = errors[i]::json, last_seq = last_seqs[i],
        idempotency_key = case when free_keys[i] then null else r.idempotency_key end,
        answer_id = message_ids[i], lease_until = null, finished_at = clock_timestamp()
      from generate_series(1, cardinality(ids)) i
      where r.id = ids[i] and r.attempt = attempts[i] and r.state = 'running'
      returning i, r.id, r.attempt, r.session_id, r.owner, r.trace_id
    ), messages_written as (
      insert into messages (
        id, session_id, request_id, owner, role, content, parts, tool_calls, model, provider, usage, status, trace_id)
      select message_ids[i], e.session_id, e.id, e.owner, message_roles[i], message_contents[i], message_parts[i]::json,
        message_calls[i]::json, message_models[i], message_providers[i], message_usages[i]::jsonb, message_statuses[i], e.trace_id
      from ended e
      where message_ids[i] is not null
    ), segments_written as (
      insert into run_segments as s (run_id, attempt, first_seq, last_seq, data)
      select e.id, e.attempt, firsts[i], lasts[i], datas[i]
      from ended e
      where datas[i] is not null
      on conflict (run_id, attempt, first_seq) do update
        set last_seq = excluded.last_seq, data = excluded.data
        where excluded.last_seq > s.last_seq
    ), events_written as (
      insert into bus_events (event_id, type, trace_id, request_id, session_id, owner, data)
      select event_ids[v], event_types[v], e.trace_id, e.id, e.session_id, e.owner, event_datas[v]::jsonb
      from generate_series(1, cardinality(event_ids)) v join ended e on e.i = event_places[v]
    )
    select i as place from ended
  loop
    done[c.place] := true;
  end loop;
  if not true = all (done) then
    for c in
      select i as place
      from generate_series(1, cardinality(ids)) i
      join runs r on r.id = ids[i] and r.attempt = attempts[i] and r.state = states[i] and r.last_seq = last_seqs[i]
    loop
      done[c.place] := true;
    end loop;
  end if;
  return done;
end
$$;

-- renew_runs_v1 renews leases that nobody has taken and the holder has not given
-- up, and tells for each whether it did. Losing a renewal in a crash of the
-- database loses nothing: no commit waits for it.
create function agentedge.renew_runs_v1(ids uuid[], attempts integer[], lease bigint) returns boolean[]
  language plpgsql set search_path = public, pg_temp
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off as $$
#variable_conflict use_column
declare
  held boolean[] := array_fill(false, array[cardinality(ids)]);
  c record;
begin
  perform set_config('synchronous_commit', 'off', true);
  for c in
    update runs r set lease_until = clock_timestamp() + lease * interval '1 microsecond'
    from unnest(ids, attempts) with ordinality q (id, attempt, place)
    where r.id = q.id and r.attempt = q.attempt and r.state = 'running' and r.lease_until is not null
    returning q.place
  loop
    held[c.place] := true;
  end loop;
  return held;
end
$$;

revoke execute on all functions in schema agentedge from public;
grant execute on function
  agentedge.append_segments_v1,
  agentedge.finish_runs_v1,
  agentedge.renew_runs_v1
to service_role;
