-- One claim, one end: what a batch holds on a node that is not busy. Plain
-- values and a statement for each row cost half of what arrays do.
set search_path = public, extensions;

-- claim_run_v1 accepts one run in the usual case: its key is new, its session is
-- new or the caller's, its limit has room. Everything else it leaves, before it
-- has written anything, to claim_runs_v1, by returning null. It locks in the
-- same order and loses its races in the same way.
--
-- It returns when the run was accepted, what remains of the limit and when the
-- oldest that it counts leaves; all in microseconds.
create function agentedge.claim_run_v1(
  id uuid, kind text, endpoint text, principal text, owner text, session_id uuid,
  key text, fingerprint bytea, node text, lease bigint, trace_id text, request text,
  new_session boolean, history_bytes integer, max_runs integer,  -- max_runs: 0 for no limit
  message_id uuid, message_role text, message_content text, message_parts text, message_calls text,
  message_model text, message_provider text, message_usage text, message_status text,
  event_id uuid, event_type text, event_data text
) returns bigint[] language plpgsql as $$
#variable_conflict use_variable
declare
  times bigint[];
  counts integer[];
  used integer := 0;
  clock bigint;
  i integer;
  found_owner text;
  found_principal text;
  known boolean := false;
  turns bigint[];
begin
  if current_setting('agentedge.settled', true) is distinct from 'on' then
    perform agentedge.settle_v1();
  end if;
  if max_runs > 0 then
    select l.times, l.counts, l.used into times, counts, used
    from public.rate_limits l
    where l.principal = principal and l.endpoint = endpoint
    for no key update;
    if not found then
      return null;
    end if;
    clock := (date_part('epoch', clock_timestamp()) * 1000000)::bigint;
    i := 1;
    while times[i] <= clock - 60000000 loop
      used := used - counts[i];
      i := i + 1;
    end loop;
    if used >= max_runs then
      return null;
    end if;
    if i > 1 then
      times := times[i:];
      counts := counts[i:];
    end if;
  end if;
  if key is not null then
    perform from public.runs r where r.principal = principal and r.endpoint = endpoint and r.idempotency_key = key;
    if found then
      return null;
    end if;
  end if;
  if not new_session and session_id is not null then
    select s.owner, s.principal into found_owner, found_principal from public.sessions s where s.id = session_id for key share;
    known := found;
    if known and (found_owner is distinct from owner or (owner is null and found_principal <> principal)) then
      return null;
    end if;
    if known and history_bytes > 0 then
      turns := agentedge.session_turns_v1(session_id, history_bytes);
    end if;
  end if;

  insert into public.runs (
    id, kind, endpoint, principal, owner, session_id, idempotency_key, keyed, fingerprint, state,
    lease_node, lease_until, trace_id, request, history)
  values (
    id, kind, endpoint, principal, owner, session_id, key, key is not null, fingerprint, 'running',
    node, clock_timestamp() + lease * interval '1 microsecond', trace_id, request::json, turns);
  if session_id is not null and not known then
    insert into public.sessions (id, owner, principal) values (session_id, owner, principal);
  end if;
  if message_id is not null then
    insert into public.messages (
      id, session_id, request_id, owner, role, content, parts, tool_calls, model, provider, usage, status, trace_id)
    values (
      message_id, session_id, id, owner, message_role, message_content, message_parts::json, message_calls::json,
      message_model, message_provider, message_usage::jsonb, message_status, trace_id);
  end if;
  if event_id is not null then
    insert into public.bus_events (event_id, type, trace_id, request_id, session_id, owner, data)
    values (event_id, event_type, trace_id, id, session_id, owner, event_data::jsonb);
  end if;

  if max_runs > 0 then
    i := cardinality(times);
    if i > 0 and times[i] / 500000 >= clock / 500000 then
      times[i] := greatest(times[i], clock);
      counts[i] := counts[i] + 1;
    else
      times := times || clock;
      counts := counts || 1;
    end if;
    update public.rate_limits l set times = times, counts = counts, used = used + 1
    where l.principal = principal and l.endpoint = endpoint;
  end if;
  return array[(date_part('epoch', now()) * 1000000)::bigint, max_runs - used - 1, coalesce(times[1] + 60000000 - clock, 0)];
end
$$;

-- finish_run_v1 is finish_runs_v1 for one run with at most one event.
create function agentedge.finish_run_v1(
  id uuid, attempt integer, state text, last_seq integer, result text, error text, free_key boolean,
  segment_first integer, segment_last integer, segment_data bytea,
  message_id uuid, message_role text, message_content text, message_parts text, message_calls text,
  message_model text, message_provider text, message_usage text, message_status text,
  event_id uuid, event_type text, event_data text
) returns boolean language plpgsql as $$
#variable_conflict use_variable
declare
  session_id uuid;
  owner text;
  trace_id text;
begin
  if current_setting('agentedge.settled', true) is distinct from 'on' then
    perform agentedge.settle_v1();
  end if;
  update public.runs r set
    state = state, result = result::json, error = error::json, last_seq = last_seq,
    idempotency_key = case when free_key then null else r.idempotency_key end,
    answer_id = message_id, lease_until = null, finished_at = clock_timestamp()
  where r.id = id and r.attempt = attempt and r.state = 'running'
  returning r.session_id, r.owner, r.trace_id into session_id, owner, trace_id;
  if not found then
    return exists (
      select from public.runs r where r.id = id and r.attempt = attempt and r.state = state and r.last_seq = last_seq);
  end if;
  if message_id is not null then
    insert into public.messages (
      id, session_id, request_id, owner, role, content, parts, tool_calls, model, provider, usage, status, trace_id)
    values (
      message_id, session_id, id, owner, message_role, message_content, message_parts::json, message_calls::json,
      message_model, message_provider, message_usage::jsonb, message_status, trace_id);
  end if;
  if segment_data is not null then
    -- The run is locked and over: looking is enough, and cheaper than "on conflict".
    perform from public.run_segments s where s.run_id = id and s.attempt = attempt and s.first_seq = segment_first;
    if found then
      update public.run_segments s set last_seq = segment_last, data = segment_data
      where s.run_id = id and s.attempt = attempt and s.first_seq = segment_first and s.last_seq < segment_last;
    else
      insert into public.run_segments (run_id, attempt, first_seq, last_seq, data)
      values (id, attempt, segment_first, segment_last, segment_data);
    end if;
  end if;
  if event_id is not null then
    insert into public.bus_events (event_id, type, trace_id, request_id, session_id, owner, data)
    values (event_id, event_type, trace_id, id, session_id, owner, event_data::jsonb);
  end if;
  return true;
end
$$;

revoke execute on all functions in schema agentedge from public;
grant execute on function
  agentedge.claim_run_v1,
  agentedge.finish_run_v1
to service_role;
