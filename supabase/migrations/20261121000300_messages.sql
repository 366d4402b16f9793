-- The turns of sessions.
set search_path = public, extensions;

create table messages (
  id uuid primary key,
  seq bigint generated always as identity,  -- the database's order
  session_id uuid not null,
  request_id uuid not null,                 -- the run
  owner text,
  role text not null,                       -- system, user, assistant, tool
  content text not null,
  parts json,
  tool_calls json,
  model text,
  provider text,
  usage jsonb,
  status text not null,
  trace_id text not null,
  created_at timestamptz not null default now()
);

create index messages_session_idx on messages (session_id, seq);
create index messages_owner_idx on messages (owner, seq) where owner is not null;

alter table messages enable row level security;
revoke all on messages from public, anon, authenticated, service_role;
grant select on messages to authenticated;
grant select, insert, update, delete on messages to service_role;

create policy messages_read on messages for select to authenticated
  using (owner = (select auth.uid())::text);

-- With a session go its messages and runs, and with the runs their logs.
create function agentedge.delete_turns() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
  with said as (delete from messages m using gone g where m.session_id = g.id returning m.request_id)
  delete from runs r where r.id in (select request_id from said);
  delete from runs r using gone g where r.owner = g.owner and r.session_id = g.id;
  return null;
end
$$;
revoke execute on function agentedge.delete_turns() from public;
create trigger sessions_delete_turns after delete on sessions
  referencing old table as gone for each statement execute function agentedge.delete_turns();
