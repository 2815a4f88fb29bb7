-- Text of sealed layers, stored as what changed. docs/delta-format.md describes the bytes of `data`.

create table text_version (
    tenant int8 not null,
    size int4 not null check (size >= 0),
    lines int4 not null,
    depth int4 not null check (depth >= 0),
    weight int4 not null,
    hash bytea not null check (length(hash) = 32),
    base bytea,
    data bytea not null,
    primary key (tenant, hash)
);
comment on table text_version is 'A text, once for each content of the tenant: whole (a keyframe), or as a delta to another. Removed by gc when no inode and no text leans on it.';
comment on column text_version.hash is 'BLAKE3 of the text.';
comment on column text_version.size is 'Bytes of the text.';
comment on column text_version.lines is 'Lines of the text; a last one without its newline counts.';
comment on column text_version.base is 'The text that the delta is applied to; null for a keyframe. Always stored before, so there are no circles.';
comment on column text_version.depth is 'Deltas between this text and its keyframe.';
comment on column text_version.weight is 'Bytes of data from this text up to its keyframe, the keyframe''s not counted.';
alter table text_version alter column data set storage external;

alter table inode add column packed bytea check (length(packed) = 32);
alter table inode add column plain bool;
comment on column inode.packed is 'The text that is this version''s content: there is no inline content then, and extents mean nothing. Set in sealed layers, and where one of their rows was copied up since.';
comment on column inode.plain is 'True: packing has looked at this version, and it stays as it is. Null otherwise.';
create index inode_packed on inode (tenant, packed) where packed is not null;

alter table layer add column packed bool not null default false;
comment on column layer.packed is 'Packing has looked at all that this layer replaced.';
create index layer_unpacked on layer (tenant, layer) where sealed_at is not null and not packed;

do $$
declare
    group_role text := 'tarbox_' || (select id from install);
begin
    execute 'alter table text_version enable row level security, force row level security';
    execute 'create policy own_rows on text_version using (tenant = (select tarbox_tenant())) with check (tenant = (select tarbox_tenant()))';
    execute format('grant select, insert, update, delete on text_version to %I', group_role);
end $$;
