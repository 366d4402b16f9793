-- Runs, what they say and what they leave. Ids are canonical UUID text, times
-- are microseconds since the Unix epoch, JSON is text, an owner that is null is nobody.

create table sessions (
    id         text not null primary key,
    owner      text,
    title      text,
    created_at integer not null
) strict, without rowid;

-- The small columns that leases touch come before the large ones, so that
-- reading them never walks a long row.
create table runs (
    id               text    not null primary key,
    state            text    not null check (state in ('accepted', 'running', 'completed', 'failed', 'cancelled', 'interrupted')),
    attempt          integer not null,
    tries            integer not null,
    lease_node       text    not null,
    lease_until      integer not null,
    released         integer not null default 0,
    cancel_requested integer not null default 0,
    readers_until    integer not null default 0,
    last_seq         integer not null default 0,
    log_gone         integer not null default 0,
    created_at       integer not null,
    finished_at      integer,
    kind             text    not null,
    endpoint         text    not null,
    principal        text    not null,
    owner            text,
    session_id       text references sessions (id),
    idempotency_key  text,
    keyed            integer not null,
    fingerprint      blob    not null,
    trace_id         text    not null,
    request          text,
    result           text,
    error            text,
    history          text -- the messages.seq of the questions that the first attempt saw, as a JSON array
) strict;

create unique index runs_key_idx on runs (principal, endpoint, idempotency_key) where idempotency_key is not null;
create index runs_lease_idx on runs (lease_until) where state = 'running';
create index runs_cancel_idx on runs (lease_node) where cancel_requested = 1 and state = 'running';
create index runs_log_idx on runs (finished_at) where log_gone = 0 and finished_at is not null;
create index runs_key_life_idx on runs (finished_at) where idempotency_key is not null and finished_at is not null;

-- seq is the order of a conversation.
create table messages (
    seq        integer primary key,
    id         text    not null unique,
    session_id text references sessions (id),
    request_id text    not null,
    owner      text,
    role       text    not null check (role in ('system', 'user', 'assistant', 'tool')),
    content    text    not null,
    parts      text,
    tool_calls text,
    model      text,
    provider   text,
    usage      text,
    status     text    not null,
    trace_id   text    not null,
    created_at integer not null
) strict;

create index messages_session_idx on messages (session_id) where role = 'user';
create unique index messages_answer_idx on messages (request_id) where role = 'assistant';

create table run_segments (
    run_id    text    not null references runs (id) on delete cascade,
    attempt   integer not null,
    first_seq integer not null,
    last_seq  integer not null,
    data      blob    not null,
    primary key (run_id, attempt, first_seq)
) strict;

-- There is no index on trace_id: trace ids are random, so that every chat would
-- touch a page of its own (a fifth of its cost) for what people look up rarely.
create table bus_events (
    event_id   text    not null primary key,
    type       text    not null,
    trace_id   text    not null,
    request_id text,
    session_id text,
    owner      text,
    data       text,
    created_at integer not null
) strict, without rowid;

-- One row per limit; the caller '' stands for everybody.
create table rate_limits (
    endpoint  text not null,
    principal text not null,
    log       blob not null, -- (time, count) pairs
    primary key (endpoint, principal)
) strict, without rowid;

create table provider_health (
    provider   text    not null,
    kind       text    not null,
    state      text    not null,
    latency_ms integer,
    error_rate real,
    message    text,
    checked_at integer not null,
    primary key (provider, kind)
) strict, without rowid;

create table hmac_nonces (
    key_id     text    not null,
    nonce      text    not null,
    expires_at integer not null,
    primary key (key_id, nonce)
) strict, without rowid;

create index hmac_nonces_expiry_idx on hmac_nonces (expires_at);

create table api_keys (
    id         text    not null primary key,
    name       text    not null unique,
    role       text    not null,
    hash       blob    not null unique,
    owner      text,
    created_at integer not null,
    not_after  integer,
    revoked_at integer
) strict, without rowid;
