-- Runs and the stored part of their logs.
set search_path = public, extensions;

create table runs (
  id uuid primary key,
  kind text not null,
  endpoint text not null,
  principal text not null,
  owner text,
  session_id uuid,
  idempotency_key text,        -- null: none, or free again
  keyed boolean not null,      -- whether it was accepted with a key
  fingerprint bytea not null,
  state text not null,         -- accepted, running, completed, failed, cancelled, interrupted
  attempt integer not null default 1,
  tries integer not null default 1,
  lease_node text not null,
  lease_until timestamptz,     -- null while running: given up by its holder
  readers_until timestamptz,   -- a node elsewhere serves readers until then
  cancel_requested boolean not null default false,
  trace_id text not null,
  request json,                -- json, not jsonb: kept as written, cheaper, and no character is refused
  result json,
  error json,
  last_seq integer not null default 0,
  log_gone boolean not null default false,
  history bigint[],            -- messages.seq of what the run's first attempt saw
  answer_id uuid,              -- the assistant's message
  created_at timestamptz not null default now(),
  finished_at timestamptz
) with (fillfactor = 80);      -- renewals change rows in place

create unique index runs_key_idx on runs (principal, endpoint, idempotency_key) where idempotency_key is not null;
-- lease_until is in no index: a renewal then writes no index either.
create index runs_running_idx on runs (lease_node, cancel_requested) where state = 'running';
-- What is over, as long as a sweep has something to do about it: its log, its
-- key, or both. One index for both sweeps, for every end writes it.
create index runs_over_idx on runs (log_gone, num_nulls(idempotency_key), finished_at)
  where finished_at is not null and (not log_gone or idempotency_key is not null);
create index runs_owner_idx on runs (owner, created_at) where owner is not null;

create table run_segments (
  run_id uuid not null,
  attempt integer not null,
  first_seq integer not null,
  last_seq integer not null,
  data bytea not null,
  created_at timestamptz not null default now(),
  primary key (run_id, attempt, first_seq)
) with (toast_tuple_target = 8160);
-- A segment is read soon, seldom more than once, and gone in a day: packing it
-- would cost more than it saves, and up to 8 KiB it stays in its row.
alter table run_segments alter column data set storage external;

create function agentedge.delete_log() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
  delete from run_segments s using gone g where s.run_id = g.id;
  return null;
end
$$;
revoke execute on function agentedge.delete_log() from public;
create trigger runs_delete_log after delete on runs
  referencing old table as gone for each statement execute function agentedge.delete_log();

alter table runs enable row level security;
revoke all on runs from public, anon, authenticated, service_role;
-- Not what a run was asked, who holds it, or by which key.
grant select (id, kind, endpoint, owner, session_id, state, attempt, cancel_requested, trace_id, result, error, created_at, finished_at)
  on runs to authenticated;
grant select, insert, update, delete on runs to service_role;

create policy runs_read on runs for select to authenticated
  using (owner = (select auth.uid())::text);

alter table run_segments enable row level security;
revoke all on run_segments from public, anon, authenticated, service_role;
grant select, insert, update, delete on run_segments to service_role;
