"""Several doors at once on the same few names: no deadlock reaches a caller, nothing is lost, counted wrong or left behind."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit

import pytest

from tarbox_core.effects import Batch, Op
from tarbox_core.errors import FsError
from tarbox_core.types import LINK_MAX, RENAME_EXCHANGE, RENAME_NOREPLACE, ROOT_INO
from tarbox_fuse.verbs import Verbs
from tests.conftest import PgServer
from tests.disturbed import disturbed
from tests.tenants import BLOCK, ROOT, Session, Tenant

R = TypeVar("R")
EXPECTED = {errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY, errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EPERM}


def together(*works: Callable[[], None]) -> None:
    """Run them in threads that start at the same moment; raise the first trouble of any."""
    troubles: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        try:
            barrier.wait(30)
            work()
        except BaseException as error:
            troubles.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise troubles[0]


def outcome(verb: Callable[[], object]) -> int:
    """0, or the errno of a failure that two doors at once may well cause."""
    try:
        verb()
    except FsError as error:
        assert error.errno in EXPECTED, error
        return error.errno
    return 0


def sessions(tenant: Tenant, count: int) -> list[Session]:
    return [tenant.session(alone=False, pool_size=1) for _ in range(count)]


def test_eight_doors_in_the_same_few_directories(tenant: Tenant) -> None:
    doors = sessions(tenant, 8)
    for number in range(3):
        doors[0].mkdir(b"/d%d" % number)
    names = [b"a", b"b", b"c", b"d", b"e"]
    outcomes: Counter[tuple[str, int]] = Counter()

    def work(door: Session, seed: int) -> Callable[[], None]:
        choose = random.Random(seed)

        def path() -> bytes:
            deep = b"/" + choose.choice(names) if choose.random() < 0.3 else b""
            return b"/d%d" % choose.randrange(3) + deep + b"/" + choose.choice(names)

        verbs: list[tuple[str, Callable[[bytes, bytes], object]]] = [
            ("mkdir", lambda one, two: door.mkdir(one)), ("mkdir", lambda one, two: door.mkdir(one)),
            ("create", lambda one, two: door.close(door.create(one))), ("create", lambda one, two: door.close(door.create(one))),
            ("write", lambda one, two: door.write(one, one * 3000)),
            ("unlink", lambda one, two: door.unlink(one)), ("rmdir", lambda one, two: door.rmdir(one)),
            ("link", lambda one, two: door.link(one, two)), ("symlink", lambda one, two: door.symlink(b"x", one)),
            ("rename", lambda one, two: door.rename(one, two)), ("rename", lambda one, two: door.rename(one, two)),
            ("rename", lambda one, two: door.rename(one, two, choose.choice([RENAME_EXCHANGE, RENAME_NOREPLACE]))),
        ]  # fmt: skip

        def run() -> None:
            for _ in range(150):
                name, verb = choose.choice(verbs)
                outcomes[name, outcome(lambda: verb(path(), path()))] += 1  # noqa: B023

        return run

    together(*(work(door, seed) for seed, door in enumerate(doors)))
    for some in (["mkdir"], ["create"], ["unlink"], ["rename"], ["rmdir", "link"]):
        assert sum(outcomes[verb, 0] for verb in some) > 0, f"no {' or '.join(some)} ever succeeded: {outcomes}"
    # The fixture's fsck holds the counts against the names; every name can be reached too.
    seen = sum(len(doors[0].names(b"/d%d" % number)) for number in range(3))
    assert seen > 0


def test_only_one_door_makes_a_name(tenant: Tenant) -> None:
    doors = sessions(tenant, 6)
    for verb in (lambda door: door.mkdir(b"/x"), lambda door: door.close(door.create(b"/x")), lambda door: door.symlink(b"y", b"/x")):
        won: list[int] = []
        together(*(lambda door=door, verb=verb: won.append(outcome(lambda: verb(door))) for door in doors))  # type: ignore[misc]  # noqa: B023
        assert sorted(won) == [0] + [errno.EEXIST] * 5
        won.clear()
        remove = Session.rmdir if doors[0].attr(b"/x").is_dir else Session.unlink
        together(*(lambda door=door: won.append(outcome(lambda: remove(door, b"/x"))) for door in doors))  # type: ignore[misc]  # noqa: B023
        assert sorted(won) == [0] + [errno.ENOENT] * 5


def test_removing_a_directory_while_another_fills_it(tenant: Tenant) -> None:
    """Either the name is made and the directory stays, or the directory goes and the name cannot be made."""
    filler, remover, mover = sessions(tenant, 3)
    results: Counter[tuple[int, int]] = Counter()
    for number in range(40):
        path = b"/dir%d" % number
        ino = filler.mkdir(path).ino
        filler.write(b"/file%d" % number, b"x")
        made: list[int] = []
        removed: list[int] = []
        if number % 2:
            fill = lambda: outcome(lambda: filler.run(lambda: filler.fs.mkdir(ROOT, ino, b"new", 0o755)))  # noqa: B023, E731
        else:
            fill = lambda: outcome(lambda: filler.run(lambda: filler.fs.rename(ROOT, ROOT_INO, b"file%d" % number, ino, b"new")))  # noqa: B023, E731
        together(
            lambda: made.append(fill()),  # noqa: B023
            lambda: removed.append(outcome(lambda: remover.run(lambda: remover.fs.rmdir(ROOT, ROOT_INO, path[1:])))),  # noqa: B023
        )
        results[made[0], removed[0]] += 1
        assert (made[0], removed[0]) in {(0, errno.ENOTEMPTY), (errno.ENOENT, 0)}, (made, removed)
        assert mover.exists(path) == (made[0] == 0)
    assert sum(results.values()) == 40


def test_replacing_a_directory_while_another_fills_it(tenant: Tenant) -> None:
    filler, replacer = sessions(tenant, 2)
    for number in range(20):
        path = b"/dir%d" % number
        ino = filler.mkdir(path).ino
        filler.mkdir(b"/other%d" % number)
        made: list[int] = []
        replaced: list[int] = []
        together(
            lambda: made.append(outcome(lambda: filler.run(lambda: filler.fs.mkdir(ROOT, ino, b"new", 0o755)))),  # noqa: B023
            lambda: replaced.append(outcome(lambda: replacer.rename(b"/other%d" % number, path))),  # noqa: B023
        )
        assert (made[0], replaced[0]) in {(0, errno.ENOTEMPTY), (errno.ENOENT, 0)}, (made, replaced)


def test_two_moves_that_would_make_a_loop_together(tenant: Tenant) -> None:
    """mv a b/ and mv b a/ are each fine alone; together they would cut both off from the root."""
    one, two = sessions(tenant, 2)
    both = 0
    for number in range(30):
        a, b = one.mkdir(b"/a%d" % number).ino, one.mkdir(b"/b%d" % number).ino
        deep = one.mkdir(b"/a%d/deep" % number).ino if number % 2 else a
        results: list[int] = []
        together(
            lambda: results.append(outcome(lambda: one.run(lambda: one.fs.rename(ROOT, ROOT_INO, b"a%d" % number, b, b"a")))),  # noqa: B023
            lambda: results.append(outcome(lambda: two.run(lambda: two.fs.rename(ROOT, ROOT_INO, b"b%d" % number, deep, b"b")))),  # noqa: B023
        )
        assert sorted(results) == [0, errno.EINVAL]
        both += one.exists(b"/b%d/a" % number)
    assert 0 <= both <= 30


def test_exchanges_that_would_make_a_loop_together(tenant: Tenant) -> None:
    one, two = sessions(tenant, 2)
    for number in range(20):
        for name in (b"a%d", b"b%d", b"a%d/in", b"b%d/in"):
            one.mkdir(b"/" + name % number)
        a, b = one.attr(b"/a%d" % number).ino, one.attr(b"/b%d" % number).ino
        results: list[int] = []
        together(
            lambda: results.append(outcome(lambda: one.run(lambda: one.fs.rename(ROOT, ROOT_INO, b"a%d" % number, b, b"in", RENAME_EXCHANGE)))),  # noqa: B023
            lambda: results.append(outcome(lambda: two.run(lambda: two.fs.rename(ROOT, ROOT_INO, b"b%d" % number, a, b"in", RENAME_EXCHANGE)))),  # noqa: B023
        )
        assert 0 in results


def test_links_of_one_file_made_and_removed_by_many(tenant: Tenant) -> None:
    doors = sessions(tenant, 6)
    ino = doors[0].write(b"/file", b"content")

    def work(number: int) -> Callable[[], None]:
        door = doors[number]

        def run() -> None:
            for step in range(15):
                door.run(lambda: door.fs.link(ROOT, ino, ROOT_INO, b"%d-%d" % (number, step)))  # noqa: B023
                if step % 2:
                    door.unlink(b"/%d-%d" % (number, step))

        return run

    together(*(work(number) for number in range(6)))
    assert doors[0].attr(b"/file").nlink == 1 + 6 * 8


def test_a_file_has_only_so_many_names(tenant: Tenant, pg_server: PgServer, schema_url: str) -> None:
    session = tenant.session()
    ino = session.write(b"/file", b"content")
    superuser = pg_server.connect(urlsplit(schema_url).path[1:])
    try:
        superuser.run("update inode set nlink = :n where tenant = :t and ino = :i", n=LINK_MAX - 1, t=tenant.info.id, i=ino)
        session.link(b"/file", b"/last")
        with pytest.raises(FsError) as error:
            session.link(b"/file", b"/more")
        assert error.value.errno == errno.EMLINK
        superuser.run("update inode set nlink = 2 where tenant = :t and ino = :i", t=tenant.info.id, i=ino)
    finally:
        superuser.close()


def test_the_last_name_goes_while_another_is_made(tenant: Tenant) -> None:
    one, two = sessions(tenant, 2)
    for number in range(30):
        ino = one.write(b"/file", b"content")
        results: dict[str, int] = {}
        together(
            lambda: results.update(unlink=outcome(lambda: one.unlink(b"/file"))),  # noqa: B023
            lambda: results.update(link=outcome(lambda: two.run(lambda: two.fs.link(ROOT, ino, ROOT_INO, b"other%d" % number)))),  # noqa: B023
        )
        assert results["unlink"] == 0 and results["link"] in (0, errno.ENOENT)
        if results["link"] == 0:
            assert two.read(b"/other%d" % number) == b"content" and two.attr(b"/other%d" % number).nlink == 1


def test_writers_of_one_file_each_keep_their_blocks(tenant: Tenant) -> None:
    """Each door writes its own part of a file, not in whole blocks, and flushes; no flush may undo another's."""
    doors = sessions(tenant, 4)
    doors[0].write(b"/file", b"")
    part = 3 * BLOCK + 100
    opened = [door.open(b"/file", write=True) for door in doors]

    def work(number: int) -> Callable[[], None]:
        door, file = doors[number], opened[number]

        def run() -> None:
            for step in range(12):
                size = part * (step + 1) // 12 - part * step // 12
                door.run(lambda: file.write(ROOT, number * part + part * step // 12, bytes([number + 1]) * size))  # noqa: B023
                door.run(lambda: file.flush(ROOT))

        return run

    together(*(work(number) for number in range(4)))
    for door, file in zip(doors, opened, strict=True):
        door.close(file)
    assert tenant.session().read(b"/file") == b"".join(bytes([number + 1]) * part for number in range(4))


def between_statements(factory: Callable[[], Op[R]], number: int, meanwhile: Callable[[], object]) -> Callable[[], Op[R]]:
    """A factory whose first operation meets another's commit between two statements of its first trip with as many."""
    left = [meanwhile]

    def run_apart() -> Op[R]:
        op = factory()
        try:
            batch = next(op)
            while True:
                if len(batch.queries) > number and left:
                    rows = yield Batch(batch.queries[:number])
                    left.pop()()
                    rows += yield Batch(batch.queries[number:], batch.final)
                else:
                    rows = yield batch
                batch = op.send(rows)
        except StopIteration as end:
            result: R = end.value
            return result

    return run_apart


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("before", "after"), [(30_000, 9_000), (9_000, 30_000), (30_000, 3), (30_000, 0), (20_000, 20_000)])
def test_a_read_sees_a_file_before_another_door_rewrites_it_or_after(tenant: Tenant, before: int, after: int, number: int) -> None:
    one, other = sessions(tenant, 2)
    one.write(b"/file", b"a" * before)

    def rewrite() -> None:
        there = other.open(b"/file", write=True, truncate=True)
        other.run(lambda: there.write(ROOT, 0, b"b" * after))
        other.close(there)

    reader = tenant.session(alone=False, pool_size=1)
    opened = reader.open(b"/file")
    read = reader.run(between_statements(lambda: opened.read(ROOT, 0, 1 << 20), number, rewrite))
    assert read == b"b" * after
    reader.close(opened)


def test_nothing_is_lost_of_what_several_doors_append_to_one_file(tenant: Tenant) -> None:
    """By short lines across the end of inline content, some of them with the file held open, some with it opened anew."""
    doors = sessions(tenant, 4)
    doors[0].close(doors[0].create(b"/log"))

    def append(door: Session, mark: bytes) -> Callable[[], None]:
        def work() -> None:
            opened = door.open(b"/log", write=True)
            for n in range(60):
                if n % 3 == 0:
                    door.close(opened)
                    opened = door.open(b"/log", write=True)
                line = b"%s %d %s\n" % (mark, n, b"x" * 50)
                assert door.run(lambda: opened.write(ROOT, 0, line, append=True)) == len(line)  # noqa: B023
            door.close(opened)

        return work

    together(*(append(door, b"%d" % number) for number, door in enumerate(doors)))
    lines = doors[0].read(b"/log").splitlines()
    assert sorted(lines) == sorted(b"%d %d %s" % (number, n, b"x" * 50) for number in range(4) for n in range(60))
    for number in range(4):
        own = [line for line in lines if line.startswith(b"%d " % number)]
        assert own == sorted(own, key=lambda line: int(line.split()[1]))


@pytest.mark.parametrize("trip", range(3))
def test_an_append_that_is_run_again_is_there_once(tenant: Tenant, trip: int) -> None:
    (door,) = sessions(tenant, 1)
    door.write(b"/log", b"begun ")
    opened = door.open(b"/log", write=True)
    assert door.run(disturbed(lambda: opened.write(ROOT, 0, b"and ended", append=True), trip)) == 9
    assert door.read(b"/log") == b"begun and ended"
    door.close(opened)
    assert door.read(b"/log") == b"begun and ended"


def test_a_file_flushed_and_truncated_at_once(tenant: Tenant) -> None:
    writer, cutter = sessions(tenant, 2)
    for size in (0, 100, BLOCK, 5 * BLOCK + 1, 40 * BLOCK):
        writer.write(b"/file", b"a" * 10 * BLOCK)
        opened = writer.open(b"/file", write=True)
        writer.run(lambda: opened.write(ROOT, 3 * BLOCK + 5, b"b" * BLOCK))  # noqa: B023
        together(lambda: writer.run(lambda: opened.flush(ROOT)), lambda: cutter.truncate(b"/file", size) and None)  # noqa: B023
        writer.close(opened)
        content = tenant.session().read(b"/file")
        whole = bytearray(b"a" * 10 * BLOCK)
        whole[3 * BLOCK + 5 : 4 * BLOCK + 5] = b"b" * BLOCK
        cut_last = bytes(whole[:size]).ljust(size, b"\0")
        cut_first = bytearray((b"a" * 10 * BLOCK)[:size].ljust(max(size, 4 * BLOCK + 5), b"\0"))
        cut_first[3 * BLOCK + 5 : 4 * BLOCK + 5] = b"b" * BLOCK
        assert content in (cut_last, bytes(cut_first))
        writer.unlink(b"/file")


def test_many_threads_in_one_session(tenant: Tenant) -> None:
    """As a mount runs it: verbs of different files in several threads at once."""
    session = tenant.session(alone=True, pool_size=6)
    session.mkdir(b"/dir")

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            for step in range(15):
                path = b"/dir/%d-%d" % (number, step)
                session.write(path, path * 2000)
                assert session.read(path) == path * 2000
                if step % 3 == 0:
                    session.rename(path, path + b"r")
                    session.unlink(path + b"r")
                session.names(b"/dir")

        return run

    together(*(work(number) for number in range(6)))
    assert len(session.names(b"/dir")) == 6 * 10


def test_new_files_that_wait_while_other_threads_meet_them(tenant: Tenant) -> None:
    """As a mount runs it, whose files wait in memory for their first flush: what a thread does to its own files must
    hold, although other threads' listings and renames store them at any moment."""
    session = tenant.session(alone=True, defer=True, pool_size=6)
    directory = session.mkdir(b"/dir").ino
    verbs = Verbs(session.fs, session.driver, time.time_ns)
    expected: dict[bytes, tuple[int, int, bytes]] = {}

    def work(number: int) -> Callable[[], None]:
        choose = random.Random(number)

        def one(name: bytes) -> None:
            with suppress(FsError):
                verbs.run(lambda: session.fs.lookup(ROOT, directory, name))
            fh, attr, _ = verbs.create(ROOT, directory, name, 0o600, exclusive=True, truncate=False)
            content, mode, mtime = b"", 0o600, 0
            for _ in range(choose.randrange(4)):
                piece = name * choose.choice([1, 300, 2000])
                verbs.write(ROOT, fh, len(content), piece, False, False)
                content += piece
                if choose.random() < 0.5:
                    mode = choose.randrange(0o1000)
                    assert verbs.setattr(ROOT, attr.ino, mode=mode).mode & 0o7777 == mode
                if choose.random() < 0.3:
                    verbs.flush(ROOT, fh)
            if choose.random() < 0.5:
                mtime = choose.randrange(1 << 60)
                verbs.setattr(ROOT, attr.ino, mtime=mtime)
            assert verbs.read(ROOT, fh, 0, 1 << 20) == content
            if choose.random() < 0.3:
                verbs.run(lambda: session.fs.rename(ROOT, directory, name, directory, name + b"r"))
                name += b"r"
            verbs.release(ROOT, fh)
            found = verbs.run(lambda: session.fs.getattr(attr.ino))
            assert (found.size, found.mode & 0o7777, found.mtime if mtime else 0) == (len(content), mode, mtime)
            expected[name] = (mode, mtime, content)
            if choose.random() < 0.3:
                verbs.run(lambda: session.fs.unlink(ROOT, directory, name))
                del expected[name]
            elif choose.random() < 0.3:
                reader = verbs.opendir(ROOT, directory)
                verbs.readdir(ROOT, reader, 0, 2000, True)
                verbs.releasedir(reader)

        def run() -> None:
            for step in range(40):
                one(b"%d-%d" % (number, step))

        return run

    together(*(work(number) for number in range(6)))
    assert session.fs.session.waiting == {} and session.fs.session.files == {}
    other = tenant.session(alone=False)
    assert sorted(other.names(b"/dir")) == sorted(expected)
    for name, (mode, mtime, content) in expected.items():
        attr = other.attr(b"/dir/" + name)
        assert (attr.mode & 0o7777, attr.mtime if mtime else 0, other.read(b"/dir/" + name)) == (mode, mtime, content)
