"""Text of old layers is stored as what changed, and nobody can tell: every view reads what was sealed, whatever happens to it then."""

from __future__ import annotations

import errno
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tarbox_core import check, packing
from tarbox_core.drivers.packing import pack
from tarbox_core.errors import FsError
from tarbox_core.types import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, SEEK_DATA, SEEK_HOLE
from tests.conftest import PgServer
from tests.pg.cli import fresh
from tests.pg.test_layers import checkpoint, switch
from tests.tenants import BLOCK, Session, Tenant


class Store:
    """What lies in the tables of a tenant."""

    def __init__(self, connection: Any, tenant: Tenant) -> None:
        self._connection = connection
        self._tenant = tenant

    def __call__(self, sql: str, **values: object) -> list[Any]:
        """The rows of a statement; `:t` is the tenant."""
        rows: list[Any] = self._connection.run(sql, t=self._tenant.info.id, **values)
        return rows

    def value(self, sql: str, **values: object) -> Any:
        return self(sql, **values)[0][0]

    @property
    def texts(self) -> tuple[int, int]:
        """Keyframes and deltas."""
        keyframes, deltas = self("select count(*) filter (where base is null), count(*) filter (where base is not null) from text_version where tenant = :t")[0]
        return keyframes, deltas

    @property
    def packed(self) -> int:
        return int(self.value("select count(*) from inode where tenant = :t and packed is not null"))


@pytest.fixture
def store(pg_server: PgServer, schema_url: str, tenant: Tenant) -> Iterator[Store]:
    connection = pg_server.connect(urlsplit(schema_url).path[1:])
    yield Store(connection, tenant)
    connection.close()


def lines(count: int, seed: int = 0) -> list[bytes]:
    rng = random.Random(seed)
    return [b"%d,%d,%s\n" % (n, rng.randrange(10**6), rng.randbytes(6).hex().encode()) for n in range(count)]


def replace(session: Session, path: bytes, data: bytes) -> None:
    """As `sed -i` and editors do: a new file, renamed over the old."""
    session.write(path + b".new", data)
    session.rename(path + b".new", path)


def rewrite(session: Session, path: bytes, data: bytes) -> None:
    """As `>` does."""
    if session.exists(path):
        session.truncate(path, 0)
    session.write(path, data)


def unlink_and_create(session: Session, path: bytes, data: bytes) -> None:
    """As `git checkout` does."""
    if session.exists(path):
        session.unlink(path)
    session.write(path, data)


@pytest.mark.parametrize("change", [rewrite, replace, unlink_and_create])
@pytest.mark.parametrize("count", [60, 2000])  # in the inode's row, and over several chunks of blocks
def test_each_layer_reads_as_it_was_sealed(
    session: Session, tenant: Tenant, store: Store, change: Callable[[Session, bytes, bytes], None], count: int
) -> None:
    text = lines(count)
    sealed = {}
    session.write(b"/f", b"".join(text))
    for n in range(8):
        text[n * 7] = b"changed in %d\n" % n
        change(session, b"/f", b"".join(text))
        checkpoint(session, f"c{n}")
        sealed[f"c{n}"] = b"".join(text)
    packed = tenant.pack()
    assert packed.versions == store.packed == 7  # the head sees the last
    assert store.texts == (1, 6)
    assert packed.stored < packed.size / (2 if count == 60 else 7)
    assert tenant.pack() == packing.Packed()
    tenant.gc()
    for name, content in sealed.items():
        assert tenant.view(name).read(b"/f") == content
    assert session.read(b"/f") == sealed["c7"]


def test_extents_and_blocks_of_packed_versions_go(session: Session, tenant: Tenant, store: Store) -> None:
    text = lines(40_000)
    for n in range(5):
        text[n * 5000] = b"changed in %d\n" % n
        rewrite(session, b"/f", b"".join(text))
        checkpoint(session, f"c{n}")
    ino = session.attr(b"/f").ino
    plain = store.value("select count(*) from block where tenant = :t")
    tenant.gc()
    assert store("select distinct layer & 4294967295 from extent where tenant = :t and ino = :ino and length(hashes) > 0 order by 1", ino=ino) != []
    places = "extent, generate_series(0, 31) n where tenant = :t and n * 32 < length(hashes)"
    used = store.value(f"select count(distinct substr(hashes, n * 32 + 1, 32)) from {places}")
    assert store.value("select count(*) from block where tenant = :t") == used < plain
    assert session.read(b"/f") == b"".join(text)


def test_a_version_that_only_changed_attributes_shares_the_content_with_the_head(session: Session, tenant: Tenant, store: Store) -> None:
    text = b"".join(lines(2000))
    session.write(b"/f", text)
    checkpoint(session, "one")
    ino = session.attr(b"/f").ino
    session.run(lambda: session.fs.setattr(session.caller, ino, mode=0o600))
    checkpoint(session, "two")
    assert tenant.pack().versions == 0  # what the head shows would be stored twice
    session.write(b"/f", b"another beginning\n")
    checkpoint(session, "three")
    assert tenant.pack().versions == 2
    assert store.texts == (1, 0)
    tenant.gc()
    assert tenant.view("one").read(b"/f") == tenant.view("two").read(b"/f") == text
    assert tenant.view("two").attr(b"/f").mode & 0o777 == 0o600


def test_what_packing_leaves_alone(session: Session, tenant: Tenant, store: Store) -> None:
    contents = {
        b"/binary": random.Random(1).randbytes(20_000),
        b"/short": b"a few lines\n" * 20,
        b"/long-lines": b"x" * 70_000 + b"\n",
        b"/noise": random.Random(2).randbytes(520).replace(b"\0", b"\1").replace(b"\n", b"\2"),
        b"/empty": b"",
    }
    for path, content in contents.items():
        session.write(path, content)
    checkpoint(session, "one")
    for path in contents:
        rewrite(session, path, b"other\n")
    checkpoint(session, "two")
    assert tenant.pack().versions == store.packed == 0
    assert store.texts == (0, 0)
    assert store.value("select count(*) from inode where tenant = :t and plain") == 3  # the short ones are not even looked at
    tenant.gc()
    assert {path: tenant.view("one").read(path) for path in contents} == contents


def test_branches_keep_what_they_see_plain(session: Session, tenant: Tenant, store: Store) -> None:
    text = b"".join(lines(500))
    session.write(b"/f", text)
    session.run(lambda: session.fs.make_branch(session.caller, "side"))
    rewrite(session, b"/f", text + b"more\n")
    checkpoint(session, "main")
    assert tenant.pack().versions == 0
    side = tenant.session(branch="side")
    assert side.read(b"/f") == text
    rewrite(side, b"/f", b"side\n" + text)
    assert tenant.pack().versions == 1
    tenant.gc()
    assert side.read(b"/f") == b"side\n" + text
    assert session.read(b"/f") == text + b"more\n"
    layers = session.run(session.fs.layers)
    assert tenant.view(layers[0].id).read(b"/f") == text


def old_and_new(session: Session, tenant: Tenant, count: int) -> tuple[bytes, bytes]:
    """A file whose version in layer "old" is packed, and looked at by the head again; both contents."""
    old, new = b"".join(lines(count)), b"".join(lines(count, 1)) * 3
    session.write(b"/f", new[:BLOCK])
    checkpoint(session, "older")  # extents of another version, which must not show through
    rewrite(session, b"/f", new)
    checkpoint(session, "long")
    rewrite(session, b"/f", old)
    checkpoint(session, "old")
    rewrite(session, b"/f", new)
    checkpoint(session, "new")
    assert tenant.pack().versions == 3
    switch(session, "old")
    return old, new


CHANGES: dict[str, tuple[Callable[[Session], object], Callable[[bytes], bytes]]] = {
    "append": (lambda s: s.write(b"/f", b"tail\n", s.attr(b"/f").size), lambda old: old + b"tail\n"),
    "overwrite": (lambda s: s.write(b"/f", b"X" * 10, 300), lambda old: old[:300] + b"X" * 10 + old[310:]),
    "far behind the end": (lambda s: s.write(b"/f", b"far", 300_000), lambda old: old.ljust(300_000, b"\0") + b"far"),
    "truncate": (lambda s: s.truncate(b"/f", 700), lambda old: old[:700].ljust(700, b"\0")),
    "truncate within a block": (lambda s: s.truncate(b"/f", 4500), lambda old: old[:4500].ljust(4500, b"\0")),
    "extend": (lambda s: s.truncate(b"/f", 500_000), lambda old: old.ljust(500_000, b"\0")),
    "empty": (lambda s: s.truncate(b"/f", 0), lambda old: b""),
    "rewrite": (lambda s: rewrite(s, b"/f", b"all new\n"), lambda old: b"all new\n"),
}


@pytest.mark.parametrize("count", [30, 2500])
@pytest.mark.parametrize("change", CHANGES)
def test_a_packed_file_can_be_changed(session: Session, tenant: Tenant, store: Store, change: str, count: int) -> None:
    old, new = old_and_new(session, tenant, count)
    assert session.read(b"/f") == old
    do, expected = CHANGES[change]
    do(session)
    assert session.read(b"/f") == expected(old)
    assert tenant.session().read(b"/f") == expected(old)
    assert tenant.fsck() == []
    checkpoint(session, "changed")
    tenant.gc()
    for name, content in {"older": new[:BLOCK], "long": new, "old": old, "new": new, "changed": expected(old)}.items():
        assert tenant.view(name).read(b"/f") == content


@pytest.mark.parametrize("count", [30, 2500])
def test_a_packed_file_that_is_read_and_changed_while_open(session: Session, tenant: Tenant, count: int) -> None:
    old, _ = old_and_new(session, tenant, count)
    opened, who = session.open(b"/f", write=True), session.caller
    assert session.run(lambda: opened.read(who, 0, 1 << 20)) == old
    session.run(lambda: opened.write(who, 200, b"in the middle"))
    expected = old[:200] + b"in the middle" + old[213:]
    assert session.run(lambda: opened.read(who, 0, 1 << 20)) == expected
    session.run(lambda: opened.flush(who))
    assert session.run(lambda: opened.read(who, 0, 1 << 20)) == expected == tenant.session().read(b"/f")
    session.run(lambda: opened.write(who, 0, b"!", append=True))
    session.run(lambda: opened.truncate(who, len(old) // 2))
    session.close(opened)
    assert session.read(b"/f") == expected[: len(old) // 2]


@pytest.mark.parametrize("count", [30, 2500])
def test_a_hole_in_a_packed_file(session: Session, tenant: Tenant, count: int) -> None:
    old, _ = old_and_new(session, tenant, count)
    opened = session.open(b"/f", write=True)
    assert session.run(lambda: opened.seek(session.caller, 0, SEEK_HOLE)) == len(old)
    assert session.run(lambda: opened.seek(session.caller, 5, SEEK_DATA)) == 5
    session.run(lambda: opened.fallocate(session.caller, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 100, 1200))
    session.close(opened)
    assert session.read(b"/f") == old[:100] + bytes(min(1200, len(old) - 100)) + old[1300:]


@pytest.mark.parametrize("count", [30, 2500])
def test_a_packed_file_stays_packed_where_only_its_attributes_change(session: Session, tenant: Tenant, store: Store, count: int) -> None:
    old, _ = old_and_new(session, tenant, count)
    ino = session.attr(b"/f").ino
    before = store.packed
    session.run(lambda: session.fs.setattr(session.caller, ino, mode=0o640))
    session.rename(b"/f", b"/g")
    session.link(b"/g", b"/h")
    assert store.packed == before + 1
    assert session.read(b"/h") == old
    copy = session.create(b"/copy")
    source = session.open(b"/g")
    session.run(lambda: session.fs.copy_range(session.caller, source, 0, copy, 0, 1 << 20))
    session.close(copy)
    session.close(source)
    assert session.read(b"/copy") == old
    session.unlink(b"/g")
    session.unlink(b"/h")
    assert not session.exists(b"/h")
    assert tenant.fsck() == []
    assert tenant.view("old").read(b"/f") == old


def test_chains_stay_short_and_small(session: Session, tenant: Tenant, store: Store) -> None:
    text = lines(400)
    sealed = []
    for n in range(150):
        text[n * 2] = b"changed in %d\n" % n
        rewrite(session, b"/f", b"".join(text))
        checkpoint(session)
        sealed.append(b"".join(text))
    packed = tenant.pack()
    assert packed.versions == 149
    assert store.texts[0] == 1
    assert store.value("select max(depth) from text_version where tenant = :t") == packing.DEPTH_MAX
    tenant.gc()
    ids = [layer.id for layer in session.run(session.fs.layers)]
    for n in (0, 1, 63, 64, 65, 66, 128, 129, 130, 148, 149):
        assert tenant.view(ids[n]).read(b"/f") == sealed[n]


def test_a_view_that_reads_while_its_files_are_packed(session: Session, tenant: Tenant) -> None:
    text = lines(30_000)
    content = b"".join(text)
    session.write(b"/f", content)
    checkpoint(session, "old")
    session.write(b"/f", b"changed\n")
    checkpoint(session, "new")
    view, stale = tenant.view("old"), tenant.session()
    opened, second = view.open(b"/f"), stale.open(b"/f")
    switch(stale, "old")
    switch(stale, "new")
    assert second.stale
    part = view.run(lambda: opened.read(view.caller, 0, 100_000))
    tenant.gc()
    assert part + view.run(lambda: opened.read(view.caller, 100_000, 1 << 30)) == content[:100_000] + content[100_000:]
    assert stale.run(lambda: second.read(stale.caller, 0, 1 << 30)) == b"changed\n" + content[8:]
    view.close(opened)
    stale.close(second)


def test_a_door_that_does_not_know_yet_that_its_layer_is_old(session: Session, tenant: Tenant) -> None:
    content = b"".join(lines(3000))
    session.write(b"/f", content)
    late = tenant.session()
    opened = late.open(b"/f")
    checkpoint(session, "old")
    rewrite(session, b"/f", content[:5000])
    checkpoint(session, "new")
    assert tenant.pack().versions == 1
    assert late.run(lambda: opened.read(late.caller, 0, 1 << 30)) == content
    late.close(opened)


def test_packing_gives_way_to_a_switch_that_came_between(session: Session, tenant: Tenant, store: Store) -> None:
    """Its step was looked at, and not stored yet."""
    content = b"".join(lines(3000))
    session.write(b"/f", content)
    checkpoint(session, "old")
    rewrite(session, b"/f", b"short\n" * 200)
    checkpoint(session, "new")
    other = tenant.session()
    packer = other.fs.packer(whole=True)
    assert other.run(lambda: packer.look(1 << 20))
    switch(session, "old")
    assert other.run(packer.store).versions == 0
    assert store.packed == 0
    assert session.read(b"/f") == content
    tenant.gc()
    assert store.texts == (1, 0)  # what the switch left
    assert tenant.view("new").read(b"/f") == b"short\n" * 200


def test_packing_beside_writers_switches_and_gc(session: Session, tenant: Tenant, store: Store) -> None:
    """Packers and gc run all the time; each layer reads as it was sealed."""
    over, failures = threading.Event(), list[BaseException]()

    def again_and_again(work: Callable[[], object]) -> None:
        try:
            while not over.is_set():
                work()
        except BaseException as error:
            failures.append(error)

    doors = [tenant.session() for _ in range(3)]
    threads = [
        threading.Thread(target=again_and_again, args=(lambda: pack(doors[0].driver, doors[0].fs),)),
        threading.Thread(target=again_and_again, args=(lambda: pack(doors[1].driver, doors[1].fs),)),
        threading.Thread(target=again_and_again, args=(lambda: doors[2].run(lambda: check.gc(doors[2].fs)),)),
    ]
    for thread in threads:
        thread.start()
    rng, sealed = random.Random(5), dict[str, list[bytes]]()
    files = [lines(rng.choice((30, 300, 1500)), n) for n in range(6)]
    try:
        for n in range(60):
            for number in rng.sample(range(len(files)), 2):
                text = files[number]
                text[rng.randrange(len(text))] = b"changed in %d\n" % n
                change = rng.choice((rewrite, replace, unlink_and_create))
                change(session, b"/f%d" % number, b"".join(text))
            checkpoint(session, f"c{n}")
            sealed[f"c{n}"] = [session.read(b"/f%d" % k) if session.exists(b"/f%d" % k) else b"" for k in range(len(files))]
            if n % 7 == 6:
                word = rng.choice(list(sealed))
                switch(session, word)
                files = [text.splitlines(keepends=True) or lines(40, n) for text in sealed[word]]
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert failures == []
    assert store.packed > 30
    for word, contents in sealed.items():
        view = tenant.view(word)
        assert [view.read(b"/f%d" % k) if view.exists(b"/f%d" % k) else b"" for k in range(len(contents))] == contents, word


def test_what_a_switch_left_is_packed(session: Session, tenant: Tenant, store: Store) -> None:
    text = lines(1000)
    session.write(b"/f", b"".join(text))
    checkpoint(session, "base")
    for n in range(4):
        text[n] = b"changed in %d\n" % n
        rewrite(session, b"/f", b"".join(text))
        checkpoint(session, f"c{n}")
    session.write(b"/new", b"".join(lines(300, 3)))
    switch(session, "base")
    assert tenant.pack().versions == 5  # four of the file, and the new one
    switch(session, "-")
    assert session.read(b"/f") == b"".join(text)
    assert session.read(b"/new") == b"".join(lines(300, 3))


def test_texts_that_nothing_leans_on_go_with_gc(session: Session, tenant: Tenant, store: Store) -> None:
    text = lines(1000)
    session.write(b"/f", b"".join(text))
    checkpoint(session, "base")
    for n in range(4):
        text[n] = b"changed in %d\n" % n
        rewrite(session, b"/f", b"".join(text))
        checkpoint(session, f"c{n}")
    switch(session, "base")
    tenant.pack()
    assert store.texts == (1, 3)
    session.run(lambda: session.fs.delete_layer(session.caller, "c3"))
    session.run(lambda: session.fs.squash(session.caller, "c0", "c2"))
    assert tenant.gc().texts == 1  # those of c0 and c1 carry that of c2
    assert tenant.view("c2").read(b"/f").startswith(b"changed in 0\nchanged in 1\nchanged in 2\n")
    session.run(lambda: session.fs.delete_layer(session.caller, "c2"))
    assert tenant.gc().texts == 3
    assert store.texts == (0, 0)
    assert session.read(b"/f") == b"".join(lines(1000))


def test_gc_and_layer_stats_tell_of_it(schema_url: str, tmp_path: Path) -> None:
    with fresh(schema_url, tmp_path) as tarbox:
        text = lines(2000)
        for n in range(4):
            text[n] = b"changed in %d\n" % n
            tarbox("write", "/f", given=b"".join(text))
            tarbox("layer", "create", f"c{n}")
        assert tarbox.json("layer", "stats")["deltas"] == 0
        said = tarbox("gc").decode()
        assert re.match(rf"{tarbox.tenant}: packed 3 old versions of files: 1[0-9]+KB of text in [0-9.]+KB\n{tarbox.tenant}: removed \d+ blocks \(", said), said
        stats = tarbox.json("layer", "stats", "--each")
        layers = stats.pop("layers")
        assert (stats["packed_files"], stats["keyframes"], stats["deltas"]) == (3, 1, 2)
        assert stats["saved_bytes"] == stats["text_bytes"] - stats["stored_bytes"] > 2 * len(b"".join(text))
        assert [(layer["name"], layer["keyframes"], layer["deltas"]) for layer in layers] == [("c0", 1, 0), ("c1", 0, 1), ("c2", 0, 1), ("c3", 0, 0)]
        assert re.search(r"^Deltas: +2$", tarbox("layer", "stats").decode(), re.M)
        assert re.search(r"^[0-9a-f]{8} +c1 +1 +\d+K +0 +1 ", tarbox("layer", "stats", "--each").decode(), re.M)
        assert tarbox("cat", "--layer", "c1", "/f").startswith(b"changed in 0\nchanged in 1\n2,")


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ("update text_version set data = set_byte(data, 99, get_byte(data, 99) # 255) where tenant = :t and base is null", "corrupt-text"),
        ("update text_version set data = '' where tenant = :t and base is not null", "corrupt-text"),
        ("update text_version set lines = lines + 1 where tenant = :t and base is not null", "corrupt-text"),
        ("delete from text_version where tenant = :t and base is null", "corrupt-text"),
        ("delete from text_version where tenant = :t", "missing-text"),
    ],
)
def test_fsck_finds_damaged_texts_and_reading_them_fails(session: Session, tenant: Tenant, store: Store, damage: str, kind: str) -> None:
    text = lines(1000)
    for n in range(3):
        text[n] = b"changed in %d\n" % n
        rewrite(session, b"/f", b"".join(text))
        checkpoint(session, f"c{n}")
    tenant.pack()
    store(damage)
    tenant.damaged = True
    assert kind in {finding.kind for finding in tenant.fsck()}
    if "lines" not in damage:
        with pytest.raises(FsError) as caught:
            tenant.view("c1").read(b"/f")
        assert caught.value.errno == errno.EIO
    assert session.read(b"/f") == b"".join(text)


def test_packing_never_covers_up_a_lost_block(session: Session, tenant: Tenant, store: Store) -> None:
    session.write(b"/f", b"".join(lines(1000)))
    checkpoint(session, "old")
    rewrite(session, b"/f", b"new\n")
    checkpoint(session, "new")
    tenant.damaged = True
    store("delete from block where tenant = :t and hash = (select min(hash) from block where tenant = :t)")
    assert tenant.pack().versions == 0
    assert "missing-block" in {finding.kind for finding in tenant.fsck()}


def test_packing_leans_on_no_damaged_text(session: Session, tenant: Tenant, store: Store) -> None:
    text = lines(1000)
    content = b"".join(text)
    for path in (b"/f", b"/g"):
        session.write(path, content)
        session.write(path + b"2", content + b"more\n")
        checkpoint(session)
        rewrite(session, path, b"new\n")
        rewrite(session, path + b"2", b"new\n")
        checkpoint(session, f"after {path.decode()[1:]}")
        tenant.pack()
        tenant.damaged = True
        store("update text_version set data = '' where tenant = :t")
    assert store.packed == 2
    layers = session.run(session.fs.layers)
    assert tenant.view(layers[2].id).read(b"/g") == content
    assert tenant.view(layers[2].id).read(b"/g2") == content + b"more\n"


def test_one_line_in_a_megabyte(make_tenant: Callable[..., Tenant]) -> None:
    """The growth for each layer, and the time to read any; benchmarks/texts.py measures both."""
    tenant = make_tenant(block_size=65536)
    session = tenant.session()
    text = lines(34_000)
    sealed = {}
    for n in range(25):
        text[n * 1000] = b"changed in %d\n" % n
        rewrite(session, b"/f.csv", b"".join(text))
        checkpoint(session, f"c{n}")
        sealed[f"c{n}"] = b"".join(text)
    packed = tenant.pack()
    assert packed.versions == 24 and packed.stored < 600_000 + 24 * 100
    slowest = 0.0
    for name in ("c0", "c1", "c12", "c23"):
        view = tenant.view(name)
        began = time.perf_counter()
        assert view.read(b"/f.csv") == sealed[name]
        slowest = max(slowest, time.perf_counter() - began)
    assert slowest < 0.3
