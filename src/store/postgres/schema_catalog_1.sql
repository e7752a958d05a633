
-- What is configured through the administration. Whoever changes it moves the generation on, which is refused where
-- somebody else has moved it meanwhile.
create table catalog (
    only_row boolean primary key default true check (only_row),
    generation bigint not null
);
insert into catalog (generation) values (0);

-- JSON texts, each with a checksum over its key and itself.
create table catalog_organizations (
    organization_id uuid primary key,
    document text not null,
    crc bigint not null
);

create table catalog_api_keys (
    name text primary key,
    document text not null,
    crc bigint not null
);

create table audit (
    seq bigint generated always as identity primary key,
    -- Tells after a lost answer whether a change was committed.
    change_id bytea not null unique,
    at bigint not null,
    organization_id uuid,
    resource text not null,
    entry text not null,
    crc bigint not null
);
create index audit_by_organization on audit (organization_id, seq);
create index audit_by_age on audit (at);

-- The gateways that are there. Moments are the database's: the gateways' clocks may differ.
create table gateways (
    id uuid primary key,
    name text not null,
    version text not null,
    started_at timestamptz not null default clock_timestamp(),
    heard_at timestamptz not null default clock_timestamp(),
    generation bigint not null,
    files text not null,
    behind text
);
