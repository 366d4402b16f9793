-- Chat sessions, and the private schema for the functions of the edge itself.
--
-- In all these files: the edge writes as the tables' owner or as service_role;
-- signed-in users read their own rows through RLS; nobody else sees anything.
-- RLS is enabled and not forced: forced, it would bind the tables' owner too,
-- which is whom the edge connects as.
--
-- There are no foreign keys: each check costs a chat about as much as the row it
-- guards, and the only code that writes these rows names ids it has just locked.
-- What a delete has to take along, triggers on the deleting side see to; they
-- cost nothing until somebody deletes.
set search_path = public, extensions;

create schema agentedge;
revoke all on schema agentedge from public;
grant usage on schema agentedge to service_role;

create table sessions (
  id uuid primary key,
  owner text,               -- the user's id; null: nobody's, then it is the principal's
  principal text not null,  -- who made it
  title text,
  created_at timestamptz not null default now()
);

create index sessions_owner_idx on sessions (owner, created_at) where owner is not null;

alter table sessions enable row level security;
revoke all on sessions from public, anon, authenticated, service_role;
grant select on sessions to authenticated;
grant select, insert, update, delete on sessions to service_role;

create policy sessions_read on sessions for select to authenticated
  using (owner = (select auth.uid())::text);
