-- What the gateway has the server check for it. It is also a line between old programs and new ones: the numbers of
-- advisory locks changed with it (session.lock_key), so an old program beside a new one would not wait for it.

create function tarbox_blocks_stored(of_tenant int8, hashes bytea[]) returns bool language plpgsql stable as $$
declare
    lost bytea;
begin
    select h into lost from unnest(hashes) h where not exists (select from block b where b.tenant = of_tenant and b.hash = h) limit 1;
    if found then
        raise exception 'no block % is stored', encode(lost, 'hex') using errcode = 'TBX01';
    end if;
    return true;
end $$;
comment on function tarbox_blocks_stored is 'True; SQLSTATE TBX01 where one of these blocks is not there. It ends the transaction that was about to name the block.';

do $$
begin
    execute format('grant execute on function tarbox_blocks_stored to %I', 'tarbox_' || (select id from install));
    execute 'revoke all on function tarbox_blocks_stored from public';
end $$;
