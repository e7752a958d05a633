-- Distributes the tables of a store over the workers of a Citus cluster, by organization. On the coordinator, as the
-- tables' owner, after `streamgate migrate`, while no gateway runs:
--
--     psql -X -v ON_ERROR_STOP=1 -f distribute.sql DATABASE_URL
--
-- It can be run again: what is distributed already is left as it is. What was in the tables moves to the workers. All of
-- it happens or nothing. How many shards there are, `set citus.shard_count = …` before it says (32 otherwise).
--
-- What stays on the coordinator: what belongs to no organization (the counter, ranges of deleted numbers, the secret of
-- the receipts), and what is small and read as a whole (what is configured, the audit trail, subscriptions, gateways).
do $$
declare
    -- All of them have organization_id first in their keys. They are colocated: what is joined stands on one worker.
    by_organization constant text[] := array['records', 'keys', 'lanes', 'pending', 'waiting', 'delivered',
        'dead_letters', 'discarded'];
    name text;
    first text;
    live text;
begin
    if not exists (select from pg_extension where extname = 'citus') then
        raise exception 'the extension citus is not in database "%"', current_database()
            using hint = 'On each server: shared_preload_libraries = ''citus'', then "create extension citus" in this database.';
    end if;
    foreach name in array by_organization || array['format', 'counter', 'gateways'] loop
        if to_regclass(name) is null then
            raise exception 'there is no table "%" in database "%"', name, current_database()
                using hint = 'Make the tables first: streamgate migrate --config FILE';
        end if;
    end loop;
    if not exists (select from pg_dist_node where isactive and shouldhaveshards and noderole = 'primary') then
        raise exception 'no server of the cluster takes shards'
            using hint = 'On the coordinator: select citus_set_coordinator_host(…), then citus_add_node(…) for each worker.';
    end if;
    -- A commit on one worker and the coordinator is decided in two phases only where a statement can meet several shards.
    if current_setting('citus.shard_count')::integer < 2 then
        raise exception 'citus.shard_count is %, and has to be 2 at least', current_setting('citus.shard_count');
    end if;
    -- The lock that `streamgate migrate` works under.
    perform pg_advisory_xact_lock(x'53474d4947524154'::bigint);
    select string_agg(g.name, ', ') into live from gateways g where g.heard_at > clock_timestamp() - interval '5 seconds';
    if live is not null then
        raise exception 'gateways run on the database: %', live using hint = 'Stop them, and run this again.';
    end if;
    foreach name in array by_organization loop
        if exists (select from pg_dist_partition where logicalrelid = name::regclass) then
            raise notice '% is distributed already', name;
        else
            perform create_distributed_table(name::regclass, 'organization_id', colocate_with => coalesce(first, 'none'));
            -- What was in the table is on the workers by now; here it would only take room.
            perform truncate_local_data_after_distributing_table(name::regclass);
        end if;
        first := coalesce(first, name);
    end loop;
end
$$;
