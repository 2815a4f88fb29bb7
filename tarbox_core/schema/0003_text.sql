-- Text of sealed layers, stored as what changed. docs/delta-format.md describes the bytes of `data`.

create table text_version (
    tenant int8 not null,
    hash bytea not null check (length(hash) = 32),
    size int8 not null check (size >= 0),
    lines int8 not null,
    base bytea,
    depth int4 not null check (depth >= 0),
    weight int8 not null,
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
create index text_version_base on text_version (tenant, base) where base is not null;
alter table text_version alter column data set storage external;

alter table inode add column packed bytea check (length(packed) = 32);
comment on column inode.packed is 'The text that is this version''s content, which then has neither inline content nor extents of its own. Only in sealed layers.';
create index inode_packed on inode (tenant, packed) where packed is not null;

do $$
declare
    group_role text := 'tarbox_' || (select id from install);
begin
    execute 'alter table text_version enable row level security, force row level security';
    execute 'create policy own_rows on text_version using (tenant = (select tarbox_tenant())) with check (tenant = (select tarbox_tenant()))';
    execute format('grant select, insert, update, delete on text_version to %I', group_role);
end $$;
