-- The tree, its blocks and its audit trail. The comments on tables and columns are the canonical description of the
-- schema; docs/architecture.md tells why it is so. Every object is made in the first schema of the search_path.

-- Isolation -----------------------------------------------------------------------------------------------------
-- Roles are shared by all databases of a server, so their names carry an id drawn once for this database:
-- the group tarbox_<install> holds the table privileges, tarbox_<install>_<tenant> is one tenant and logs in nowhere.

create table install (
    id text primary key
);
comment on table install is 'One row: the id that this database''s roles carry in their names.';
insert into install values (substr(md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text), 1, 8));

do $$
declare
    group_role text := 'tarbox_' || (select id from install);
begin
    execute format('create role %I nologin', group_role);
    -- The tenant whose role the session works under; null (and so no row at all) under any other role.
    execute format(
        'create function tarbox_tenant() returns int8 language sql stable parallel safe as
         $f$ select case when starts_with(current_user::text, %L) then substr(current_user::text, %s)::int8 end $f$',
        group_role || '_', length(group_role) + 2);
end $$;

create table schema_version (
    version int4 primary key,
    applied_at timestamptz not null default now()
);
comment on table schema_version is 'The migrations applied to this database, by number. Forward only.';

create table tenant (
    tenant int8 primary key generated always as identity,
    name text not null unique,
    title text not null default '',
    role text not null,
    block_size int4 not null check (block_size between 4096 and 1048576 and block_size & (block_size - 1) = 0),
    max_file_size int8 not null check (max_file_size > 0),
    created_at timestamptz not null default now()
);
comment on table tenant is 'An isolated tree. `tenant` leads the key of every other table.';
comment on column tenant.name is 'What users say: 1 to 64 of a-z A-Z 0-9 . _ -, starting with a letter or digit.';
comment on column tenant.title is 'A name for people; may be empty.';
comment on column tenant.role is 'The database role that sees the rows of this tenant and no others.';
comment on column tenant.block_size is 'Bytes; a power of two; fixed when the tenant is created, because extents count in it.';
comment on column tenant.max_file_size is 'Bytes; a write or truncation beyond it fails with EFBIG.';

-- Layers ---------------------------------------------------------------------------------------------------------
-- A stamp is `line << 32 | seq`. A line is an unbranched run of layers; a checkpoint adds 1 to seq; writing after a
-- rollback opens a new line with a larger number. Among the rows of one key that a head sees, the one with the
-- largest stamp is therefore always the nearest ancestor: it is the visible row.

create table line (
    tenant int8 not null references tenant,
    line int4 not null check (line > 0),
    fork int8,
    primary key (tenant, line)
);
comment on column line.fork is 'The layer this line grew out of; null for the first line.';

create table layer (
    tenant int8 not null references tenant,
    layer int8 not null,
    parent int8,
    name text,
    message text not null default '',
    created_at timestamptz not null default now(),
    sealed_at timestamptz,
    primary key (tenant, layer),
    unique (tenant, name)
);
comment on column layer.layer is 'The stamp that rows written in this layer carry.';
comment on column layer.sealed_at is 'When it became read-only; null for a layer that a head still writes to.';

create table head (
    tenant int8 not null references tenant,
    name text not null,
    layer int8 not null,
    visible int8multirange not null,
    epoch int8 not null default 1,
    primary key (tenant, name)
);
comment on table head is 'A branch: where writing goes on.';
comment on column head.layer is 'The layer that new rows are stamped with.';
comment on column head.visible is 'The stamps this head sees: one range for each line between it and the root.';
comment on column head.epoch is 'Grows with every checkpoint and switch, so that a session notices that its head moved.';

-- The tree -------------------------------------------------------------------------------------------------------

create table dentry (
    tenant int8 not null,
    parent int8 not null,
    name bytea not null check (length(name) between 1 and 255),
    layer int8 not null,
    ino int8,
    kind int2 not null,
    primary key (tenant, parent, name, layer) include (ino, kind)
);
comment on table dentry is 'A name in a directory. "." and ".." are not stored.';
comment on column dentry.ino is 'The inode the name stands for; null is a whiteout: the name is gone from this layer on.';
comment on column dentry.kind is 'The file type, mode >> 12, as readdir''s d_type.';

create table inode (
    tenant int8 not null,
    ino int8 not null,
    layer int8 not null,
    mode int4 not null,
    uid int8 not null,
    gid int8 not null,
    nlink int4 not null check (nlink >= 0),
    size int8 not null check (size >= 0),
    blocks int8 not null check (blocks >= 0),
    rdev int8 not null,
    atime int8 not null,
    mtime int8 not null,
    ctime int8 not null,
    parent int8 not null,
    target bytea,
    inline bytea,
    primary key (tenant, ino, layer)
) with (fillfactor = 85);
comment on column inode.ino is 'Never reused. 1 is the root of each tenant.';
comment on column inode.mode is 'File type and permission bits, as st_mode.';
comment on column inode.nlink is 'Names that lead here; for a directory 2 + its subdirectories. 0: unlinked; the row stays while it is open, or to shadow an older layer''s row.';
comment on column inode.blocks is 'Bytes stored for the content, holes not counted.';
comment on column inode.atime is 'Nanoseconds since the epoch, as mtime and ctime.';
comment on column inode.parent is 'The directory that holds this directory; 0 for anything else. The root''s is the root.';
comment on column inode.target is 'What a symbolic link points to; null for anything else.';
comment on column inode.inline is 'The whole content of a small regular file, which then has no extents; null otherwise.';
create index inode_unlinked on inode (tenant, ino) where nlink = 0;
alter table inode alter column inline set storage external;

create table extent (
    tenant int8 not null,
    ino int8 not null,
    chunk int8 not null,
    layer int8 not null,
    hashes bytea not null check (length(hashes) % 32 = 0),
    primary key (tenant, ino, chunk, layer)
) with (fillfactor = 85);
comment on table extent is 'Which blocks make up a file: 32 blocks a row (a chunk).';
comment on column extent.hashes is '32 bytes a block, at most 32 blocks; 32 zero bytes, and whatever lies behind the end, are holes.';
alter table extent alter column hashes set storage external;

create table block (
    tenant int8 not null,
    hash bytea not null check (length(hash) = 32),
    data bytea not null,
    primary key (tenant, hash)
);
comment on table block is 'Content, stored once for each tenant. Never updated; removed by gc when no extent of any layer names it.';
comment on column block.hash is 'BLAKE3 of data.';
comment on column block.data is 'At most block_size bytes; a block shorter than its place in the file is followed by zeros.';
alter table block alter column data set storage external;

create table xattr (
    tenant int8 not null,
    ino int8 not null,
    name bytea not null check (length(name) between 1 and 255),
    layer int8 not null,
    value bytea,
    primary key (tenant, ino, name, layer)
);
comment on column xattr.value is 'Null: the attribute is gone from this layer on.';

create sequence inode_number minvalue 2;

-- The audit trail ------------------------------------------------------------------------------------------------

create table audit_logs (
    tenant int8 not null,
    id int8 not null generated always as identity,
    created_at timestamptz not null default now(),
    layer int8 not null,
    operation text not null,
    inode_id int8,
    path text,
    uid int8 not null,
    pid int8 not null,
    result int4 not null default 0,
    bytes int8 not null default 0,
    metadata jsonb,
    primary key (tenant, created_at, id)
) partition by range (created_at);
comment on table audit_logs is 'What was done to the tree. The record of a mutation commits with the mutation; reads and failures are recorded in batches.';
comment on column audit_logs.path is 'As it stood when the operation ran; bytes that are not UTF-8 appear as \xNN. Null where only the inode was known.';
comment on column audit_logs.result is '0, or the errno the caller got.';
comment on column audit_logs.bytes is 'Bytes read or written.';
create table audit_logs_other partition of audit_logs default;

create function tarbox_audit_ahead(weeks int4) returns int4 language plpgsql as $$
declare
    monday timestamptz := date_trunc('week', now());
    made int4 := 0;
    week text;
begin
    perform pg_advisory_xact_lock(hashtext('tarbox_audit_ahead'));
    for n in 0 .. weeks loop
        week := 'audit_logs_' || to_char(monday + n * interval '1 week', 'YYYYMMDD');
        if to_regclass(quote_ident(week)) is null
           and not exists (select from audit_logs_other where created_at >= monday + n * interval '1 week'
                                                          and created_at < monday + (n + 1) * interval '1 week') then
            execute format('create table %I partition of audit_logs for values from (%L) to (%L)', week,
                           monday + n * interval '1 week', monday + (n + 1) * interval '1 week');
            execute format('alter table %I enable row level security, force row level security', week);
            made := made + 1;
        end if;
    end loop;
    return made;
end $$;
comment on function tarbox_audit_ahead is 'Makes the weekly partitions of this and the next weeks; tells how many it made.';

-- Row-level security ---------------------------------------------------------------------------------------------
-- Forced on every table. A tenant's role sees and writes its own rows. The owner sees tenants and audit records, which
-- it administers, and of the trees nothing: it takes a tenant's role to work in one.

do $$
declare
    group_role text := 'tarbox_' || (select id from install);
    t text;
begin
    foreach t in array array['tenant', 'line', 'layer', 'head', 'dentry', 'inode', 'extent', 'block', 'xattr', 'audit_logs'] loop
        execute format('alter table %I enable row level security, force row level security', t);
        execute format('create policy own_rows on %I using (tenant = (select tarbox_tenant())) with check (tenant = (select tarbox_tenant()))', t);
    end loop;
    execute 'alter table audit_logs_other enable row level security, force row level security';
    execute format('create policy administered on tenant to %I using (true) with check (true)', current_user);
    execute format('create policy administered on audit_logs to %I using (true) with check (true)', current_user);
    execute format('create policy administered on audit_logs_other to %I using (true) with check (true)', current_user);

    execute format('grant usage on schema %I to %I', current_schema(), group_role);
    execute format('grant select on schema_version, tenant to %I', group_role);
    execute format('grant select, insert, update on line, layer, head to %I', group_role);
    execute format('grant select, insert, update, delete on dentry, inode, extent, block, xattr to %I', group_role);
    execute format('grant select, insert on audit_logs to %I', group_role);
    execute format('grant usage on sequence inode_number to %I', group_role);
    execute format('grant execute on function tarbox_tenant() to %I', group_role);
end $$;

-- Tenants --------------------------------------------------------------------------------------------------------

create function tarbox_tenant_create(
    new_name text, new_title text, new_block_size int4, new_max_file_size int8, root_uid int8, root_gid int8, root_time int8
) returns int8 language plpgsql as $$
declare
    owner text := current_user;
    new_tenant int8;
    new_role text;
    first_layer constant int8 := (1::int8 << 32) | 1;
begin
    insert into tenant (name, title, role, block_size, max_file_size)
        values (new_name, new_title, '', new_block_size, new_max_file_size)
        on conflict (name) do nothing returning tenant into new_tenant;
    if new_tenant is null then
        return null;
    end if;
    new_role := 'tarbox_' || (select id from install) || '_' || new_tenant;
    update tenant set role = new_role where tenant = new_tenant;
    execute format('create role %I nologin in role %I', new_role, 'tarbox_' || (select id from install));
    if current_setting('server_version_num')::int4 >= 160000 then
        execute format('grant %I to %I with inherit false, set true', new_role, owner);
    else
        execute format('grant %I to %I', new_role, owner);
    end if;
    perform set_config('role', new_role, true);
    insert into line values (new_tenant, 1, null);
    insert into layer (tenant, layer) values (new_tenant, first_layer);
    insert into head (tenant, name, layer, visible)
        values (new_tenant, 'main', first_layer, int8multirange(int8range(1::int8 << 32, first_layer, '[]')));
    insert into inode (tenant, ino, layer, mode, uid, gid, nlink, size, blocks, rdev, atime, mtime, ctime, parent)
        values (new_tenant, 1, first_layer, 16877, root_uid, root_gid, 2, 0, 0, 0, root_time, root_time, root_time, 1);
    perform set_config('role', owner, true);
    return new_tenant;
end $$;
comment on function tarbox_tenant_create is 'Makes a tenant with its role, its first layer, the head main and an empty root directory; null when the name is taken.';

create function tarbox_tenant_delete(old_name text) returns bool language plpgsql as $$
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
    delete from inode where tenant = old.tenant;
    delete from head where tenant = old.tenant;
    delete from layer where tenant = old.tenant;
    delete from line where tenant = old.tenant;
    perform set_config('role', owner, true);
    delete from audit_logs where tenant = old.tenant;
    delete from tenant where tenant = old.tenant;
    execute format('drop role %I', old.role);
    return true;
end $$;
comment on function tarbox_tenant_delete is 'Removes a tenant, all its rows and its role; false when there is none of that name.';

do $$
declare
    group_role text := 'tarbox_' || (select id from install);
begin
    -- Needed by the delete above alone; a tenant has no statement of ours that takes layers away.
    execute format('grant delete on head, layer, line to %I', group_role);
    execute 'revoke all on function tarbox_tenant_create, tarbox_tenant_delete, tarbox_audit_ahead from public';
end $$;

select tarbox_audit_ahead(4);
