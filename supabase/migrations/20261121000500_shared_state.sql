-- What all nodes share. For the edge alone.
set search_path = public, extensions;

-- One row per limit: a sliding log of (time, how many), newest last. times are
-- microseconds since 1970; used is the sum of counts. Principal '' is everybody.
create table rate_limits (
  principal text not null,
  endpoint text not null,
  times bigint[] not null default '{}',
  counts integer[] not null default '{}',
  used integer not null default 0,
  primary key (principal, endpoint)
) with (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

create table provider_health (
  provider text not null,
  kind text not null,
  state text not null,
  latency_ms integer,
  error_rate real,
  checked_at timestamptz not null default now(),
  message text,
  primary key (provider, kind)
);

create table hmac_nonces (
  key_id text not null,
  nonce text not null,
  expires_at timestamptz not null,
  primary key (key_id, nonce)
);
create index hmac_nonces_expiry_idx on hmac_nonces (expires_at);

create table api_keys (
  id uuid primary key,
  name text not null,
  role text not null check (role in ('anon', 'authenticated', 'service_role')),
  tenant text,
  prefix text not null,          -- the few characters that a log may show
  hash bytea not null unique,    -- SHA-256 of the key: the key itself is nowhere
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz
);

do $$
declare
  name text;
begin
  foreach name in array array['rate_limits', 'provider_health', 'hmac_nonces', 'api_keys'] loop
    execute format('alter table %I enable row level security', name);
    execute format('revoke all on %I from public, anon, authenticated, service_role', name);
    execute format('grant select, insert, update, delete on %I to service_role', name);
  end loop;
end
$$;
