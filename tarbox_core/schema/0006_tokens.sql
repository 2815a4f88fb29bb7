-- Who may come in without a database password: tokens. The owner looks at them; a tenant's role sees none, not its own either.

create table token (
    id int8 primary key generated always as identity,
    tenant int8 not null references tenant on delete cascade,
    hash bytea not null check (length(hash) = 32),
    kind text not null check (kind in ('token', 'link', 'session')),
    name text not null default '',
    read_only bool not null,
    uid int8 not null,
    gid int8 not null,
    parent int8 references token on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz,
    used_at timestamptz,
    unique (hash, tenant)
);
comment on table token is 'Leave to work on one tenant until a time. A secret that opens several tenants has a row for each.';
comment on column token.hash is 'SHA-256 of the secret, or its HMAC where the servers have a secret of their own; the secret itself is nowhere.';
comment on column token.kind is 'token: for a program or a person, as often as wanted; link: good for one session; session: what a browser holds.';
comment on column token.name is 'What people call it; may be empty.';
comment on column token.read_only is 'It changes nothing.';
comment on column token.uid is 'Whose name the records bear of what is done with it, and who owns what is made; as gid.';
comment on column token.parent is 'The token or link that a session came from: revoked together, and the session ends no later than a token.';
comment on column token.used_at is 'When last; null for never. A link that has one is spent.';
create index token_parent on token (parent);

do $$
begin
    execute 'alter table token enable row level security, force row level security';
    execute format('create policy administered on token to %I using (true) with check (true)', current_user);
end $$;
