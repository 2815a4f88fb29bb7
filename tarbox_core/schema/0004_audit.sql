-- What makes the audit trail provable and lets it end: the transaction of each record, seals over them, and weeks that
-- are made ahead and dropped in one piece. docs/audit.md tells what the seals prove.

alter table audit_logs add column xact int8 not null default pg_current_xact_id()::text::int8;
comment on column audit_logs.xact is 'The transaction that wrote it. The server starts anew with these in a restored dump; seals tell the two apart by id.';
create index audit_logs_xact on audit_logs (tenant, xact);
-- A record of what retention took away: few, and each look at the seals wants them.
create index audit_logs_prune on audit_logs (tenant) where operation = 'prune';

create table audit_seal (
    tenant int8 not null,
    n int8 not null check (n > 0),
    floor int8 not null,
    lo int8 not null,
    hi int8 not null check (hi > lo),
    week timestamptz not null,
    records int8 not null check (records > 0),
    last int8 not null,
    digest bytea not null check (length(digest) = 32),
    chain bytea not null check (length(chain) = 32),
    sealed_at timestamptz not null default now(),
    primary key (tenant, n)
);
comment on table audit_seal is 'What the records of finished transactions were: one row for each week they fall in, each time somebody sealed. Written once.';
comment on column audit_seal.n is '1, 2, 3, ... for each tenant, without a gap.';
comment on column audit_seal.floor is 'Only records with a larger id are meant; grows when a restored dump started the transactions anew.';
comment on column audit_seal.lo is 'The transactions meant are those from lo up to, not including, hi. With one floor they follow one another without a gap.';
comment on column audit_seal.week is 'The week of the records'' created_at: it begins on this Monday, 0:00 UTC.';
comment on column audit_seal.records is 'How many they are.';
comment on column audit_seal.last is 'The largest id among them.';
comment on column audit_seal.digest is 'SHA-256 of the SHA-256 of each of them, in the order of xact and id.';
comment on column audit_seal.chain is 'SHA-256 of the chain before it and this row: it stands for the whole trail up to here.';

-- Weeks ------------------------------------------------------------------------------------------------------------
-- They begin on Monday, 0:00 UTC, whatever the session's time zone. Whoever needs a lock on the trail waits for it
-- briefly: behind such a wait every writer would queue.

create function tarbox_audit_weeks() returns table (partition regclass, since timestamptz, until timestamptz)
language sql stable set timezone to 'UTC' set datestyle to 'ISO' as $$
    select b.partition, b.bounds[1]::timestamptz, b.bounds[2]::timestamptz from (
        select c.oid::regclass as partition, regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*)''\) TO \(''(.*)''\)') as bounds
        from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'audit_logs'::regclass) b
    where b.bounds is not null
$$;
comment on function tarbox_audit_weeks is 'The partitions that are there, but the one for what has none. Those of early days began at midnight of some time zone.';

create or replace function tarbox_audit_ahead(weeks int4) returns int4
language plpgsql set timezone to 'UTC' set lock_timeout to '3s' as $$
declare
    week constant interval := interval '1 week';
    monday timestamptz;
    first timestamptz;
    past timestamptz;
    made int4 := 0;
    name text;
begin
    perform pg_advisory_xact_lock(hashtext('tarbox_audit_ahead'));
    for n in 0 .. weeks loop
        monday := date_trunc('week', now()) + n * week;
        past := monday + week;
        name := 'audit_logs_' || to_char(monday, 'YYYYMMDD');
        select greatest(monday, max(w.until)) into first from tarbox_audit_weeks() w where w.since < past and w.until > monday;
        if first < past and to_regclass(quote_ident(name)) is null
           and not exists (select from audit_logs_other where created_at >= first and created_at < past) then
            execute format('create table %I partition of audit_logs for values from (%L) to (%L)', name, first, past);
            execute format('alter table %I enable row level security, force row level security', name);
            made := made + 1;
        end if;
    end loop;
    return made;
end $$;

create function tarbox_audit_prune(days int4, uid int8, pid int8) returns table (before timestamptz, records int8)
language plpgsql set timezone to 'UTC' set lock_timeout to '3s' as $$
declare
    edge timestamptz := date_trunc('week', now() - days * interval '1 day');
    gone int8;
    old regclass;
begin
    if days < 1 then
        raise exception 'retention of % days', days using errcode = 'invalid_parameter_value';
    end if;
    perform pg_advisory_xact_lock(hashtext('tarbox_audit_ahead'));
    with dropped as (select a.tenant, count(*) as records from audit_logs a where a.created_at < edge group by a.tenant),
    told as (insert into audit_logs (tenant, layer, operation, uid, pid, metadata)
        select d.tenant, 0, 'prune', tarbox_audit_prune.uid, tarbox_audit_prune.pid, jsonb_build_object('before', to_char(edge, 'YYYY-MM-DD'),
            'retention_days', days, 'records', d.records, 'records_ever', d.records + coalesce(
                (select case when p.metadata->>'records_ever' ~ '^[0-9]{1,15}$' then (p.metadata->>'records_ever')::int8 end
                    from audit_logs p where p.tenant = d.tenant and p.operation = 'prune' order by p.id desc limit 1), 0)) from dropped d)
    select coalesce(sum(d.records), 0) into gone from dropped d;
    for old in select w.partition from tarbox_audit_weeks() w where w.until <= edge loop
        execute format('drop table %s', old);
    end loop;
    delete from audit_logs where created_at < edge;
    return query select edge, gone;
end $$;
comment on function tarbox_audit_prune is 'Drops the weeks that ended so many days ago or earlier, of all tenants, with a record of it in the trail of each tenant that had any; until when, and how many records.';

-- Row-level security and tenants -------------------------------------------------------------------------------------

create or replace function tarbox_tenant_delete(old_name text) returns bool language plpgsql as $$
declare
    owner text := current_user;
    old tenant;
begin
    select * into old from tenant where name = old_name for update;
    if not found then
        return false;
    end if;
    perform set_config('role', old.role, true);
    delete from dentry where tenant = old.tenant;
    delete from xattr where tenant = old.tenant;
    delete from extent where tenant = old.tenant;
    delete from block where tenant = old.tenant;
    delete from text_version where tenant = old.tenant;
    delete from inode where tenant = old.tenant;
    delete from head where tenant = old.tenant;
    delete from layer where tenant = old.tenant;
    delete from line where tenant = old.tenant;
    perform set_config('role', owner, true);
    delete from audit_seal where tenant = old.tenant;
    delete from audit_logs where tenant = old.tenant;
    delete from tenant where tenant = old.tenant;
    execute format('drop role %I', old.role);
    return true;
end $$;

do $$
declare
    group_role text := 'tarbox_' || (select id from install);
begin
    execute 'alter table audit_seal enable row level security, force row level security';
    execute 'create policy own_rows on audit_seal using (tenant = (select tarbox_tenant())) with check (tenant = (select tarbox_tenant()))';
    execute format('create policy administered on audit_seal to %I using (true) with check (true)', current_user);
    execute format('grant select, insert on audit_seal to %I', group_role);
    -- Which transaction wrote a record is not for the writer to say.
    execute format('revoke insert on audit_logs from %I', group_role);
    execute format('grant insert (tenant, created_at, layer, operation, inode_id, path, uid, pid, result, bytes, metadata) on audit_logs to %I', group_role);
    execute 'revoke all on function tarbox_audit_prune, tarbox_audit_weeks from public';
end $$;
