-- Records and where each of them stands. Every key leads with the organization, so that the tables can be distributed by
-- it. Moments are milliseconds since 1970, as they are compared, and never shown by the database itself.

-- What makes this database a store of its own.
create table meta (
    only_row boolean primary key default true check (only_row),
    receipt_secret bytea not null,
    receipt_secret_crc bigint not null
);

-- The newest record's number. Whoever appends holds its row, so numbers have no gaps and become visible in their order.
create table counter (
    only_row boolean primary key default true check (only_row),
    high_water bigint not null
);

create table lanes (
    organization_id uuid not null,
    id bigint not null,
    work_stream_id uuid not null,
    queue text not null,
    primary key (organization_id, id),
    unique (organization_id, work_stream_id, queue)
);

-- Written once; the only change is that a body loses its details.
create table records (
    organization_id uuid not null,
    seq bigint not null,
    lane bigint not null,
    accepted_at bigint not null,
    random bytea not null,
    key bytea not null,
    crc bigint not null,
    body bytea not null,
    primary key (organization_id, seq)
);
create index records_by_number on records (seq);

-- Which record a repeat repeats.
create table keys (
    organization_id uuid not null,
    key bytea not null,
    seq bigint not null,
    accepted_at bigint not null,
    primary key (organization_id, key)
);

-- Each record stands in exactly one of the five tables that follow, or was deleted.
create table pending (
    organization_id uuid not null,
    lane bigint not null,
    seq bigint not null,
    due_at bigint not null,
    attempts bigint not null,
    lease_token bytea,
    last_error text,
    primary key (organization_id, lane, seq)
);
create index pending_by_due on pending (organization_id, lane, due_at);
create index pending_by_number on pending (seq);

create table waiting (
    organization_id uuid not null,
    seq bigint not null,
    lane bigint not null,
    since bigint not null,
    closes_at bigint not null,
    attempts bigint not null,
    last_error text,
    primary key (organization_id, seq)
);
create index waiting_by_close on waiting (closes_at);

create table delivered (
    organization_id uuid not null,
    seq bigint not null,
    lane bigint not null,
    at bigint not null,
    attempts bigint not null,
    last_error text,
    closed_after_minutes bigint,
    trimmed boolean not null default false,
    primary key (organization_id, seq)
);
create index delivered_by_age on delivered (at);
create index delivered_by_number on delivered (seq);
create index delivered_untrimmed on delivered (at) where not trimmed;

create table dead_letters (
    organization_id uuid not null,
    seq bigint not null,
    lane bigint not null,
    at bigint not null,
    attempts bigint not null,
    reason text not null,
    primary key (organization_id, seq)
);
create index dead_letters_by_age on dead_letters (at);
create index dead_letters_by_number on dead_letters (seq);

create table discarded (
    organization_id uuid not null,
    seq bigint not null,
    lane bigint not null,
    at bigint not null,
    attempts bigint not null,
    reason text not null,
    discarded_at bigint not null,
    discarded_by text not null,
    discarded_for text not null,
    primary key (organization_id, seq)
);
create index discarded_by_age on discarded (at);
create index discarded_by_number on discarded (seq);

-- Numbers of records that were deleted, as ranges that neither touch nor overlap.
create table deleted (
    first bigint primary key,
    last bigint not null check (last >= first)
);
