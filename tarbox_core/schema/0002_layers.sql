-- What layers need beyond their stamps: ids that people can type, what a line grew on, where a head came from, and
-- indexes that find what a layer changed without looking at the tree.

alter table line add column below int8multirange not null default '{}';
comment on column line.below is 'The stamps that the fork sees: with its own part of the line, what a layer of this line sees.';

alter table layer add column id text generated always as (substr(md5(tenant::text || '.' || layer::text), 1, 12)) stored;
alter table layer add column automatic bool not null default false;
create unique index layer_id on layer (tenant, id text_pattern_ops);
create index layer_parent on layer (tenant, parent);
comment on column layer.id is '12 hexadecimal digits, the same for ever; users may give any beginning of it that no other has.';
comment on column layer.name is 'Unique in the tenant; null for a layer without one.';
comment on column layer.parent is 'The layer this one was begun on: what it changed is changed against that one. Null for the first.';
comment on column layer.automatic is 'Not asked for: sealed by a switch, a branch, or the clock.';

alter table head add column previous int8;
alter table head add column created_at timestamptz not null default now();
comment on column head.previous is 'The sealed layer that the last switch left; null before the first.';

-- Every change of a tree touches the row of an inode, so these tell all that a layer changed. Only who says `layer > 0`, which is
-- always true, gets them: in a fresh table they would seem to be as good as the primary key for the newest row of one inode or name.
create index inode_layer on inode (tenant, layer) where layer > 0;
create index dentry_layer on dentry (tenant, layer) where layer > 0;
-- The names of an inode.
create index dentry_ino on dentry (tenant, ino) where ino is not null;
