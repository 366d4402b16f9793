-- What a Supabase database brings and a plain PostgreSQL lacks, as far as the
-- migrations and the policies need it. It runs before the migrations, on plain
-- PostgreSQL only, and any number of times: it creates what is absent and
-- changes nothing that is there.

do $$
declare
  wanted record;
begin
  if exists (select from pg_roles where rolname = 'supabase_admin') then
    raise exception 'this is a Supabase database: the stub is not for it';
  end if;
  for wanted in
    select * from (values
      ('anon', 'nologin'),
      ('authenticated', 'nologin'),
      ('service_role', 'nologin bypassrls'),
      ('authenticator', 'noinherit login')) as r (name, attributes)
    where not exists (select from pg_roles where rolname = r.name)
  loop
    -- Roles belong to the whole cluster: another database's migration may create
    -- the same one at this moment.
    begin
      execute format('create role %I %s', wanted.name, wanted.attributes);
      if wanted.name = 'authenticator' then
        grant anon, authenticated, service_role to authenticator;
      end if;
    exception
      when duplicate_object or unique_violation then null;
    end;
  end loop;
end
$$;

create schema if not exists extensions;
create schema if not exists auth;
create schema if not exists realtime;
grant usage on schema extensions, auth, realtime to anon, authenticated, service_role;

create table if not exists auth.users (
  id uuid primary key,
  email text
);

do $$
begin
  -- PostgREST hands a request's claims over in this setting; so does whoever
  -- asks in a user's name.
  if to_regprocedure('auth.jwt()') is null then
    create function auth.jwt() returns jsonb language sql stable set search_path = '' as
      $body$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $body$;
  end if;
  if to_regprocedure('auth.uid()') is null then
    create function auth.uid() returns uuid language sql stable set search_path = '' as
      $body$ select nullif(auth.jwt() ->> 'sub', '')::uuid $body$;
  end if;
  if to_regprocedure('auth.role()') is null then
    create function auth.role() returns text language sql stable set search_path = '' as
      $body$ select auth.jwt() ->> 'role' $body$;
  end if;
  if to_regprocedure('auth.email()') is null then
    create function auth.email() returns text language sql stable set search_path = '' as
      $body$ select auth.jwt() ->> 'email' $body$;
  end if;

  if to_regclass('realtime.messages') is null then
    create table realtime.messages (
      id uuid not null default gen_random_uuid() primary key,
      topic text not null,
      extension text not null,
      payload jsonb,
      event text,
      private boolean default false,
      inserted_at timestamptz not null default now()
    );
    alter table realtime.messages enable row level security;
  end if;
  if to_regprocedure('realtime.topic()') is null then
    create function realtime.topic() returns text language sql stable set search_path = '' as
      $body$ select nullif(current_setting('realtime.topic', true), '') $body$;
  end if;
  -- Nobody listens here: sending is nothing. The comment tells the migrations so.
  if to_regprocedure('realtime.send(jsonb,text,text,boolean)') is null then
    create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
      language sql set search_path = '' as $body$ select null::void $body$;
    comment on function realtime.send(jsonb, text, text, boolean) is 'stub: sends nothing';
  end if;

  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    begin
      create publication supabase_realtime;
    exception
      when insufficient_privilege then
        raise notice 'publication supabase_realtime not created: %', sqlerrm;
    end;
  end if;
end
$$;
