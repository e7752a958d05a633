
-- A copy of a store on files that is not finished. While the row is there no gateway opens the database.
create table copying (
    only_row boolean primary key default true check (only_row),
    -- Which store it is a copy of, and as of which moment; both are hashes.
    store bytea not null,
    moment bytea not null,
    directory text not null,
    begun_at timestamptz not null default clock_timestamp()
);

-- Numbers of records that damage had taken before they were copied here, as ranges that are in `deleted` too.
create table lost (
    first bigint primary key,
    last bigint not null check (last >= first),
    at bigint not null,
    why text not null
);
