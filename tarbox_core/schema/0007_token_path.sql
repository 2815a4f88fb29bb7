-- A token may be for a part of the tree.

alter table token add column path bytea check (length(path) > 1 and get_byte(path, 0) = 47);
comment on column token.path is 'The one directory that it opens, by its true path from the root: no link, no "." and no ".." in it. Null: all of the tenant.';
