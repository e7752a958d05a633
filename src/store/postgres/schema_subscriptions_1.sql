
-- Who wants to be told of records that reach a queue, and what each is still to be told.

-- What holds for all of it. Whoever changes who is subscribed, or puts notices down, writes this row.
create table subscriptions_state (
    only_row boolean primary key default true check (only_row),
    -- Up to which record notices were put down.
    position bigint not null,
    -- Grows with every change of who is subscribed.
    revision bigint not null,
    -- The gateway that tells, and until when if it does not say so again.
    leader bytea,
    leads_until timestamptz
);
insert into subscriptions_state (position, revision) values (0, 1);

create table subscriptions (
    organization_id uuid not null,
    id bytea not null,
    number bigint generated always as identity,
    document text not null,
    crc bigint not null,
    -- It is told of records with higher numbers.
    after bigint not null,
    -- How it ended, in words; null while it lasts.
    ended_at bigint,
    ended_because text,
    delivered bigint not null default 0,
    last_delivered_at bigint,
    primary key (organization_id, id)
);
create index subscriptions_by_id on subscriptions (id);

create table notices (
    organization_id uuid not null,
    subscription bytea not null,
    number bigint not null,
    receipt bytea not null,
    at bigint not null,
    due_at bigint not null,
    attempts bigint not null,
    last_error text,
    -- When it was given up; null while it is pending.
    dead_at bigint,
    primary key (organization_id, subscription, number)
);
create index notices_due on notices (organization_id, subscription, due_at) where dead_at is null;
create index notices_pending on notices (number) where dead_at is null;
create index notices_dead on notices (dead_at) where dead_at is not null;
