-- What happened, and when: ids, durations and counts, never a prompt.
set search_path = public, extensions;

create table bus_events (
  event_id uuid not null,
  type text not null,
  trace_id text not null,
  request_id uuid,
  session_id uuid,
  owner text,
  data jsonb,
  created_at timestamptz not null default now(),
  primary key (trace_id, event_id)  -- whoever reads, reads a trace: one index less to write
);

-- Rows arrive in the order of their time: a range index of a few pages does.
create index bus_events_time_idx on bus_events using brin (created_at) with (pages_per_range = 32, autosummarize = on);

alter table bus_events enable row level security;
revoke all on bus_events from public, anon, authenticated, service_role;
grant select on bus_events to authenticated;
grant select, insert, update, delete on bus_events to service_role;

create policy bus_events_read on bus_events for select to authenticated
  using (owner = (select auth.uid())::text);

-- Where Realtime is real, an event is broadcast to the private channel
-- trace:<trace_id>. Elsewhere there is no trigger: it would cost every event.
create function agentedge.broadcast_event() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  perform realtime.send(
    jsonb_build_object(
      'event_id', new.event_id, 'type', new.type, 'trace_id', new.trace_id, 'request_id', new.request_id,
      'session_id', new.session_id, 'data', new.data, 'created_at', new.created_at),
    new.type, 'trace:' || new.trace_id, true);
  return null;
end
$$;
revoke execute on function agentedge.broadcast_event() from public;

do $$
begin
  if to_regprocedure('realtime.send(jsonb,text,text,boolean)') is null
    or obj_description(to_regprocedure('realtime.send(jsonb,text,text,boolean)'), 'pg_proc') like 'stub:%'
  then
    return;
  end if;
  create trigger bus_events_broadcast after insert on bus_events
    for each row execute function agentedge.broadcast_event();
  -- A user may listen to the traces of their own events.
  begin
    create policy agentedge_traces on realtime.messages for select to authenticated
      using (extension = 'broadcast' and (select realtime.topic()) like 'trace:%' and exists (
        select from public.bus_events e
        where e.trace_id = substr((select realtime.topic()), 7) and e.owner = (select auth.uid())::text));
  exception
    when insufficient_privilege then
      raise notice 'no policy on realtime.messages: %; private channels stay closed to users', sqlerrm;
  end;
end
$$;

do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables) then
    alter publication supabase_realtime add table bus_events;
  end if;
exception
  when insufficient_privilege then
    raise notice 'bus_events is not in publication supabase_realtime: %', sqlerrm;
end
$$;
