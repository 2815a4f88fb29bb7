"""The control files at /.tarbox, through the core: what each says, what each does, what each refuses, and who never meets them."""

from __future__ import annotations

import errno
import json
import stat
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tarbox_core import listing
from tarbox_core.errors import FsError
from tarbox_core.types import RENAME_EXCHANGE, ROOT_INO, Caller
from tests.conftest import PgServer
from tests.pg.test_layers import busy_tree, change_everything, checkpoint, switch, tree
from tests.tenants import Session, Tenant

NEW, SWITCH, LIST, CURRENT = b"/.tarbox/layers/new", b"/.tarbox/layers/switch", b"/.tarbox/layers/list", b"/.tarbox/layers/current"


def put(session: Session, path: bytes, *writes: bytes, append: bool = False) -> None:
    """As a shell's redirection does: opened with O_TRUNC or O_APPEND, written piece by piece."""
    opened = session.open(path, read=False, write=True, truncate=not append)
    offset = 0
    for data in writes:
        offset += session.run(lambda: opened.write(session.caller, offset, data, append=append), durable=opened.moves_head)  # noqa: B023
    session.run(lambda: opened.flush(session.caller))
    session.close(opened)


def lines(session: Session, path: bytes) -> list[str]:
    return session.read(path).decode().splitlines()


def fails(number: int, call: Callable[[], object]) -> None:
    with pytest.raises(FsError) as error:
        call()
    assert errno.errorcode[error.value.errno] == errno.errorcode[number]


def why(session: Session) -> str:
    return session.read(b"/.tarbox/last_error").decode()


# --- checkpoints and switches


def test_writing_a_name_makes_a_checkpoint_and_writing_an_id_switches(session: Session) -> None:
    assert lines(session, CURRENT) == ["no checkpoint yet", "branch main"]
    session.write(b"/a", b"one\n")
    put(session, NEW, b"before refactor\n")
    first = session.run(lambda: session.fs.layer("before refactor"))
    assert lines(session, CURRENT) == [f"{first.short} before refactor", "branch main"]
    session.write(b"/a", b"two\n")
    put(session, NEW, b"\n")
    assert [line.split()[0] for line in lines(session, LIST)] == ["*", "|", "|"]
    put(session, SWITCH, first.short.encode() + b"\n")
    assert session.read(b"/a") == b"one\n"
    put(session, SWITCH, b"-\n")
    assert session.read(b"/a") == b"two\n"
    put(session, SWITCH, b"before refactor")
    assert session.read(b"/a") == b"one\n"
    saved = session.read(CURRENT)
    put(session, SWITCH, b"-")
    put(session, SWITCH, saved)  # what current says is what switch takes
    assert session.read(b"/a") == b"one\n"
    put(session, SWITCH, *saved.splitlines(keepends=True))  # line by line, too
    assert why(session) == ""


def test_a_message_follows_the_name_in_one_write_or_in_several(session: Session) -> None:
    put(session, NEW, b"one\nwhy it was made\nand more\n")
    put(session, NEW, b"two\n", b"first line\n", b"second line\n")
    put(session, NEW, b"three", append=True)
    put(session, NEW, b"\nno name\n", append=True)
    layers = session.run(session.fs.layers)
    assert [(layer.name, layer.message) for layer in layers[:-1]] == [
        ("one", "why it was made\nand more"), ("two", "first line\nsecond line"), ("three", ""), (None, "no name"),
    ]  # fmt: skip
    fails(errno.EINVAL, lambda: put(session, NEW, b"four\n", b"x" * 5000))
    assert "at most 4096 characters" in why(session)
    fails(errno.EINVAL, lambda: put(session, NEW, b"fi", b"ve\n"))
    assert "in one piece" in why(session)


def test_a_bad_write_is_refused_by_the_write_and_last_error_says_why(session: Session) -> None:
    assert session.read(b"/.tarbox/last_error") == b""
    put(session, NEW, b"taken\n")
    session.write(b"/a", b"1")
    put(session, NEW, b"other\n")
    cases = [
        (NEW, b"taken\n", errno.EEXIST, "a layer named 'taken' exists already"),
        (NEW, b"a/b\n", errno.EINVAL, "bad layer name"),
        (NEW, b"\xff\xfe\n", errno.EINVAL, "UTF-8"),
        (NEW, b"x" * 9000, errno.EINVAL, "at most 8192 bytes"),
        (SWITCH, b"nowhere\n", errno.ENOENT, "no layer named 'nowhere'"),
        (SWITCH, b"\n", errno.EINVAL, "to which layer?"),
        (SWITCH, b"12345678 gone\n", errno.ENOENT, "no layer named '12345678'"),
        (SWITCH, b"-\n", errno.ENOENT, "never switched"),
        (NEW, b"n" * 8000, errno.EINVAL, f"bad layer name '{'n' * 64}...': it is longer"),
    ]
    for path, data, number, text in cases:
        fails(number, lambda: put(session, path, data))  # noqa: B023
        told = why(session)
        assert text in told and path[len(b"/.tarbox/") :].decode() in told
        assert told.endswith("\n") and told[:4].isdigit() and told[19] == "Z"
    opened = session.open(SWITCH, read=False, write=True)
    session.run(lambda: opened.write(session.caller, 7, b"taken\n"))  # an appending shell's, with a size in mind that is none
    fails(errno.EINVAL, lambda: session.run(lambda: opened.write(session.caller, 7, b"taken\n")))
    assert len(session.run(session.fs.layers)) == 3


def test_an_ambiguous_id_is_refused(session: Session) -> None:
    for _ in range(17):  # one of 16 digits comes twice
        put(session, NEW, b"\n")
    digits = [layer.id[0] for layer in session.run(session.fs.layers)]
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    fails(errno.EINVAL, lambda: put(session, SWITCH, twice.encode()))
    assert "could be" in why(session)
    fails(errno.EINVAL, lambda: session.attr(b"/.tarbox/layers/tree/" + twice.encode()))


def test_a_read_only_door_reads_and_changes_nothing(tenant: Tenant) -> None:
    session = tenant.session()
    put(session, NEW, b"one\n")
    reader = tenant.session(read_only=True)
    assert [line.split()[2] for line in lines(reader, LIST)] == ["(open)", "one"]
    for path in (NEW, SWITCH):
        fails(errno.EROFS, lambda: reader.open(path, read=False, write=True))  # noqa: B023


def test_a_door_on_a_sealed_layer_has_them_too(tenant: Tenant) -> None:
    session = tenant.session()
    session.write(b"/f", b"1")
    checkpoint(session, "one")
    session.write(b"/f", b"2")
    two = checkpoint(session, "two")
    view = tenant.view("one")
    one = view.run(lambda: view.fs.layer("one"))
    assert lines(view, CURRENT) == [f"{one.short} one", "read-only view"]
    assert [(line.split()[0], line.split()[-2]) for line in lines(view, LIST)[1:]] == [(two.short, "two"), ("*", "one")]
    assert view.read(b"/f") == b"1" and view.read(b"/.tarbox/layers/tree/two/f") == b"2"
    assert [line.split()[0] for line in lines(view, b"/.tarbox/history/f")] == ["one"]
    fails(errno.EROFS, lambda: view.open(SWITCH, read=False, write=True))
    fails(errno.EROFS, lambda: view.run(lambda: view.fs.access(view.caller, view.attr(NEW).ino, 2)))


# --- what they say


def test_the_list_has_a_line_for_each_layer_the_newest_first(session: Session) -> None:
    assert [line.split()[2] for line in lines(session, LIST)] == ["(open)"]
    put(session, NEW, b"first\nwhy\nnot shown\n")
    session.write(b"/a", b"1")
    put(session, NEW, "zweite Änderung\n".encode())
    session.write(b"/a", b"2")
    switch(session, "first")
    shown = lines(session, LIST)
    first = session.run(lambda: session.fs.layer("first"))
    assert [line[:1] for line in shown] == ["*", " ", " ", "|"]
    assert shown[3].split() == ["|", first.short, "first", listing.utc(first.sealed_at or 0), "why"]
    assert "(automatic)" in shown[1] and "before the switch to first" in shown[1]
    assert shown[0].split()[2] == "(open)" and shown[0].endswith("main")
    assert len({line.index("Z") for line in shown}) == 1  # in columns
    assert "zweite Änderung" in shown[2]


def test_list_json_tells_all_of_every_layer(session: Session) -> None:
    put(session, NEW, b"first\nwhy\n")
    session.write(b"/a", b"1")
    put(session, NEW, b"\n")
    value = json.loads(session.read(b"/.tarbox/layers/list.json"))
    assert [(item["name"], item["message"], item["current"], item["beneath"], item["branch"]) for item in value] == [
        ("first", "why", False, True, None), (None, "", False, True, None), (None, "", True, False, "main"),
    ]  # fmt: skip
    assert value[1]["parent"] == value[0]["id"] and value[2]["sealed_at"] is None and not value[0]["automatic"]


def test_a_text_stays_as_it_was_when_it_was_opened(session: Session) -> None:
    put(session, NEW, b"one\n")
    opened = session.open(LIST)
    put(session, NEW, b"two\n")
    text = session.run(lambda: opened.read(session.caller, 0, 1 << 20))
    assert text.count(b"\n") == 2 and opened.attr().size == len(text)
    assert session.run(lambda: opened.read(session.caller, 5, 10)) == text[5:15]
    assert session.run(lambda: opened.read(session.caller, len(text), 10)) == b""
    assert session.attr(LIST).size == 0
    assert opened.direct and not opened.moves_head and not opened.dirty
    session.close(opened)


def test_stats(session: Session) -> None:
    session.write(b"/a", b"x" * 100)
    put(session, NEW, b"one\n")
    values = dict(line.split(" ", 1) for line in lines(session, b"/.tarbox/stats"))
    assert values["tenant"] == session.fs.tenant.name and values["branch"] == "main" and values["layers"] == "1"
    assert values["inodes"] == "2" and values["bytes"] == "100"


def test_diff_between_two_layers_and_against_the_head(session: Session) -> None:
    session.write(b"/kept", b"1")
    session.write(b"/changed", b"1\n")
    session.write(b"/gone", b"2\n")
    session.write(b"/old", b"moved\n" * 10)
    put(session, NEW, b"one\n")
    session.write(b"/changed", b"2\n")
    session.unlink(b"/gone")
    session.rename(b"/old", b"/ren\named")
    put(session, NEW, b"before refactor\n")
    session.write(b"/fresh", b"3")
    wanted = ["M\t/changed", "D\t/gone", 'R\t/old\t"/ren\\named"']
    assert sorted(lines(session, b"/.tarbox/layers/diff/one..before refactor")) == sorted(wanted)
    assert lines(session, b"/.tarbox/layers/diff/before refactor..") == ["A\t/fresh"]
    assert lines(session, b"/.tarbox/layers/diff/before refactor..head") == ["A\t/fresh"]
    one = session.run(lambda: session.fs.layer("one"))
    assert len(lines(session, b"/.tarbox/layers/diff/" + one.short.encode() + b"..before refactor")) == 3
    for name, text in ((b"one..nowhere", "no layer named 'nowhere'"), (b"..one", "which layers?"), (b"one", "which layers?")):
        fails(errno.ENOENT, lambda: session.attr(b"/.tarbox/layers/diff/" + name))  # noqa: B023
        assert text in why(session)
    assert session.names(b"/.tarbox/layers/diff") == []


def test_history_mirrors_the_tree_and_tells_of_what_is_gone(session: Session) -> None:
    session.mkdir(b"/d")
    session.write(b"/d/f", b"one\ntwo\n")
    session.write(b"/d/b\xff\n", b"odd\n")
    session.symlink(b"f", b"/d/sym")
    session.write(b"/gone", b"x\n")
    put(session, NEW, b"one\n")
    session.write(b"/d/f", b"one\nTWO\nthree\n")
    session.unlink(b"/gone")
    put(session, NEW, b"two\n")
    entries = session.entries(b"/.tarbox/history/d")
    assert {(entry.name, entry.kind) for entry in entries} == {(b"f", 8), (b"b\xff\n", 8), (b"sym", 8)}
    for entry in entries:
        attr = session.attr(b"/.tarbox/history/d/" + entry.name)
        assert entry.attr == attr and attr.ino == entry.ino and stat.S_ISREG(attr.mode) and not attr.mode & 0o222
    shown = [line.split() for line in lines(session, b"/.tarbox/history/d/f")]
    assert [(line[0], line[2], line[-1]) for line in shown] == [("two", "M", "~1)"), ("one", "A", "~0)")]
    assert "(+1 -0 ~1)" in lines(session, b"/.tarbox/history/d/f")[0] and "14 bytes" in lines(session, b"/.tarbox/history/d/f")[0]
    assert len(lines(session, b"/.tarbox/history/d/b\xff\n")) == 1
    assert [line.split()[2] for line in lines(session, b"/.tarbox/history/gone")] == ["D", "A"]
    assert session.names(b"/.tarbox/history") == [b"d"]
    fails(errno.ENOENT, lambda: session.attr(b"/.tarbox/history/never"))
    assert "history/never: /never: nothing ever stood there" in why(session)
    fails(errno.ENOENT, lambda: session.attr(b"/.tarbox/history/.tarbox"))
    fails(errno.ENOTDIR, lambda: session.attr(b"/.tarbox/history/d/f/x"))
    fails(errno.EISDIR, lambda: session.read(b"/.tarbox/history/d"))


# --- sealed layers


def test_a_tree_is_the_sealed_state_whatever_the_head_does(session: Session) -> None:
    busy_tree(session)
    made = session.attr(b"/d/large").mtime
    before = checkpoint(session, "be fore")
    sealed = tree(session)
    change_everything(session)
    after = checkpoint(session)
    session.write(b"/d", b"now a file")
    assert session.names(b"/.tarbox/layers/tree") == [b"be fore", after.short.encode()]
    for word in (b"be fore", before.short.encode(), before.id.encode()):
        assert looked_at(session, word) == sealed
    opened = session.open(b"/.tarbox/layers/tree/be fore/d/large")
    assert session.run(lambda: opened.read(session.caller, 49_990, 100)) == b"x" * 10 and not opened.direct
    attr = session.attr(b"/.tarbox/layers/tree/be fore/d/large")
    assert opened.attr() == attr and opened.ino == attr.ino and attr.mtime == made
    session.close(opened)
    root = session.attr(b"/.tarbox/layers/tree/be fore")
    assert root.ino == session.attr(b"/.tarbox/layers/tree/be fore/d/..").ino
    assert session.entries(b"/.tarbox/layers/tree/be fore/d")[0].ino & (1 << 44) - 1 != 0
    assert session.attr(b"/.tarbox/layers/tree/be fore/d/sym", follow=True).ino == session.attr(b"/.tarbox/layers/tree/be fore/d/small").ino


def looked_at(session: Session, word: bytes) -> dict[bytes, object]:
    """What `tree` shows, of a layer under layers/tree, with the numbers that the inodes have in the tree."""
    base = b"/.tarbox/layers/tree/" + word
    shown: dict[bytes, object] = {}
    stack = [b""]
    while stack:
        folder = stack.pop()
        attr = session.attr(base + folder)
        assert attr.ino >> 61 == 1 and (attr.parent >> 61 or folder == b"")
        real = attr._replace(ino=attr.ino & (1 << 44) - 1, parent=attr.parent & (1 << 44) - 1 if folder else ROOT_INO)
        shown[folder or b"/"] = real._replace(layer=0, blocks=0)
        for entry in session.entries(base + folder):
            path = folder + b"/" + entry.name
            attr = session.attr(base + path)
            assert attr == entry.attr
            if attr.is_dir:
                stack.append(path)
                continue
            content: object = None
            if attr.is_reg:
                content = session.read(base + path)
            elif attr.is_symlink:
                content = session.run(lambda ino=attr.ino: session.fs.readlink(session.caller, ino))
            names = session.run(lambda ino=attr.ino: session.fs.listxattr(session.caller, ino))
            values = {n: session.run(lambda n=n, ino=attr.ino: session.fs.getxattr(session.caller, ino, n)) for n in names}
            shown[path] = (attr._replace(ino=attr.ino & (1 << 44) - 1, layer=0), content, values)
    return shown


def test_sealed_layers_are_read_only_and_only_sealed_ones_are_there(session: Session) -> None:
    session.write(b"/f", b"1")
    checkpoint(session, "one")
    base = b"/.tarbox/layers/tree/one"
    fails(errno.EROFS, lambda: session.write(base + b"/f", b"2"))
    fails(errno.EROFS, lambda: session.write(base + b"/new", b"2"))
    fails(errno.EROFS, lambda: session.unlink(base + b"/f"))
    fails(errno.EROFS, lambda: session.mkdir(base + b"/d"))
    fails(errno.EROFS, lambda: session.rename(base + b"/f", b"/g"))
    fails(errno.EROFS, lambda: session.rename(b"/f", base + b"/g"))
    fails(errno.EROFS, lambda: session.truncate(base + b"/f", 0))
    fails(errno.EXDEV, lambda: session.link(base + b"/f", b"/g"))
    ino = session.attr(base + b"/f").ino
    fails(errno.EROFS, lambda: session.run(lambda: session.fs.setattr(session.caller, ino, mode=0o600)))
    fails(errno.EROFS, lambda: session.run(lambda: session.fs.setxattr(session.caller, ino, b"user.a", b"b")))
    fails(errno.ENOENT, lambda: session.attr(b"/.tarbox/layers/tree/head"))
    assert "once it is sealed" in why(session)
    fails(errno.ENOENT, lambda: session.attr(base + b"/.tarbox"))
    assert session.read(b"/f") == b"1"


def test_two_layers_are_looked_at_at_once_and_more_than_are_kept(session: Session) -> None:
    for n in range(70):
        session.write(b"/f", b"%d" % n)
        checkpoint(session, f"n{n}")
    opened = [session.open(b"/.tarbox/layers/tree/n%d/f" % n) for n in range(70)]  # more than the door keeps Filesystems
    assert len({one.ino for one in opened}) == 70
    assert [session.run(lambda one=one: one.read(session.caller, 0, 10)) for one in opened] == [b"%d" % n for n in range(70)]
    assert [session.run(lambda one=one: session.fs.getattr(one.ino)).ino for one in opened] == [one.ino for one in opened]
    wrong: list[object] = []

    def reader(n: int) -> None:
        for _ in range(20):
            if session.read(b"/.tarbox/layers/tree/n%d/f" % n) != b"%d" % n:
                wrong.append(n)

    threads = [threading.Thread(target=reader, args=(n,)) for n in (3, 64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    for one in opened:
        session.close(one)


def test_a_layer_that_was_deleted_or_squashed_is_stale_where_it_was_looked_at(session: Session) -> None:
    session.write(b"/f", b"1")
    checkpoint(session, "one")
    session.write(b"/f", b"2")
    checkpoint(session, "two")
    inos = [session.attr(b"/.tarbox/layers/tree/one" + path).ino for path in (b"", b"/f")]
    session.run(lambda: session.fs.squash(session.caller, "one", "two"))
    for ino in inos:
        fails(errno.ESTALE, lambda: session.run(lambda: session.fs.getattr(ino)))  # noqa: B023
    fails(errno.ESTALE, lambda: session.run(lambda: session.fs.lookup(session.caller, inos[0], b"f")))
    fails(errno.ENOENT, lambda: session.attr(b"/.tarbox/layers/tree/one"))
    assert session.read(b"/.tarbox/layers/tree/two/f") == b"2"


def test_a_directory_that_is_open_of_a_layer_that_was_squashed_away_lists_nothing_else(session: Session) -> None:
    session.write(b"/old", b"x")
    checkpoint(session, "zero")
    session.rename(b"/old", b"/one")
    checkpoint(session, "one")
    session.rename(b"/one", b"/two")
    checkpoint(session, "two")
    root = session.attr(b"/.tarbox/layers/tree/one/").ino
    opened = session.run(lambda: session.fs.opendir(session.caller, root))
    assert [entry.name for entry in session.run(lambda: opened.read(session.caller, 2, 10))] == [b"one"]
    session.run(lambda: session.fs.squash(session.caller, "one", "two"))
    for offset in (0, 2):
        fails(errno.ESTALE, lambda: session.run(lambda: opened.read(session.caller, offset, 10)))  # noqa: B023


def test_reading_in_a_layer_is_recorded_and_reading_control_files_is_not(pg_server: PgServer, schema_url: str, session: Session) -> None:
    session.mkdir(b"/d")
    session.write(b"/d/f", b"1")
    checkpoint(session, "one")
    session.read(b"/.tarbox/layers/tree/one/d/f")
    session.read(LIST)
    session.names(b"/.tarbox")
    session.flush_records()
    connection = pg_server.connect(urlsplit(schema_url).path[1:])
    query = "select operation, path, inode_id from audit_logs where tenant = :t and path like '/.tarbox%' order by id"
    rows = connection.run(query, t=session.fs.tenant.id)
    connection.close()
    real = session.attr(b"/d/f").ino
    assert rows == [["open", "/.tarbox/layers/tree/one/d/f", real], ["read", "/.tarbox/layers/tree/one/d/f", real]]


# --- the name


def test_the_name_is_found_never_listed_and_nobody_s_to_make_or_take(session: Session) -> None:
    session.write(b"/f", b"1")
    session.mkdir(b"/d")
    top = session.attr(b"/.tarbox")
    assert top.is_dir and stat.S_IMODE(top.mode) == 0o555 and top.parent == ROOT_INO
    assert session.run(lambda: session.fs.lookup(session.caller, ROOT_INO, b".tarbox")) == top
    assert session.run(lambda: session.fs.lookup(session.caller, top.ino, b"..")).ino == ROOT_INO
    assert session.names() == [b"d", b"f"]
    for make in (session.mkdir, session.create, lambda path: session.symlink(b"x", path), lambda path: session.link(b"/f", path)):
        fails(errno.EEXIST, lambda: make(b"/.tarbox"))  # noqa: B023
    fails(errno.EEXIST, lambda: session.run(lambda: session.fs.mknod(session.caller, ROOT_INO, b".tarbox", 0o10644)))
    fails(errno.EEXIST, lambda: session.rename(b"/d", b"/.tarbox"))
    for flags in (0, RENAME_EXCHANGE):
        fails(errno.EPERM, lambda: session.rename(b"/.tarbox", b"/d", flags))  # noqa: B023
    fails(errno.EPERM, lambda: session.rmdir(b"/.tarbox"))
    fails(errno.EPERM, lambda: session.unlink(b"/.tarbox"))
    fails(errno.EISDIR, lambda: session.open(b"/.tarbox"))
    session.mkdir(b"/d/.tarbox")  # an ordinary name anywhere else
    session.write(b"/d/.tarbox/f", b"2")
    assert session.read(b"/d/.tarbox/f") == b"2" and session.names(b"/d") == [b".tarbox"]


def test_nothing_inside_is_made_changed_or_removed(session: Session) -> None:
    checkpoint(session, "one")
    session.write(b"/f", b"1")
    for folder in (b"/.tarbox", b"/.tarbox/layers", b"/.tarbox/layers/tree", b"/.tarbox/layers/diff", b"/.tarbox/history"):
        fails(errno.EPERM, lambda: session.mkdir(folder + b"/x"))  # noqa: B023
        fails(errno.EPERM, lambda: session.create(folder + b"/x"))  # noqa: B023
        fails(errno.EPERM, lambda: session.rename(b"/f", folder + b"/x"))  # noqa: B023
    for path in (NEW, LIST, b"/.tarbox/history/f", b"/.tarbox/layers/tree/one"):
        fails(errno.EPERM, lambda: session.unlink(path))  # noqa: B023
        fails(errno.EPERM, lambda: session.rename(path, b"/x"))  # noqa: B023
    for path in (NEW, LIST, b"/.tarbox/layers"):
        ino = session.attr(path).ino
        for change in ({"mode": 0o777}, {"uid": 5}, {"mtime": 5}):
            fails(errno.EPERM, lambda: session.run(lambda: session.fs.setattr(session.caller, ino, **change)))  # noqa: B023
        fails(errno.EPERM, lambda: session.run(lambda: session.fs.setxattr(session.caller, ino, b"user.a", b"b")))  # noqa: B023
        fails(errno.ENODATA, lambda: session.run(lambda: session.fs.getxattr(session.caller, ino, b"user.a")))  # noqa: B023
        assert session.run(lambda: session.fs.listxattr(session.caller, ino)) == []  # noqa: B023
        fails(errno.EINVAL, lambda: session.run(lambda: session.fs.readlink(session.caller, ino)))  # noqa: B023
    fails(errno.EACCES, lambda: session.read(NEW))
    fails(errno.EACCES, lambda: session.write(LIST, b"x"))
    fails(errno.EACCES, lambda: session.truncate(LIST, 0))
    assert session.truncate(SWITCH, 0).size == 0
    fails(errno.ENOENT, lambda: session.attr(b"/.tarbox/nothing"))
    fails(errno.ENOTDIR, lambda: session.attr(b"/.tarbox/stats/x"))
    fails(errno.ENOTDIR, lambda: session.attr(b"/.tarbox/stats/"))
    fails(errno.ESTALE, lambda: session.run(lambda: session.fs.getattr((1 << 62) + 5)))
    fails(errno.ESTALE, lambda: session.run(lambda: session.fs.getattr((1 << 61) + (9 << 44) + 1)))


def test_an_open_control_file_answers_every_verb_of_a_file(session: Session) -> None:
    put(session, NEW, b"one\n")
    text, command = session.open(LIST), session.open(SWITCH, read=False, write=True)
    who = session.caller
    size = text.attr().size
    assert session.run(lambda: text.seek(who, 3, 3)) == 3 and session.run(lambda: text.seek(who, 3, 4)) == size
    fails(errno.ENXIO, lambda: session.run(lambda: text.seek(who, size, 3)))
    fails(errno.EINVAL, lambda: session.run(lambda: text.seek(who, 0, 9)))
    for opened in (text, command):
        fails(errno.EOPNOTSUPP, lambda: session.run(lambda: opened.fallocate(who, 0, 0, 10)))  # noqa: B023
        session.run(lambda: opened.fsync(who))  # noqa: B023
        session.run(lambda: opened.flush(who))  # noqa: B023
    fails(errno.EACCES, lambda: session.run(lambda: command.read(who, 0, 10)))
    fails(errno.EACCES, lambda: session.run(lambda: text.write(who, 0, b"x")))
    fails(errno.EACCES, lambda: session.run(lambda: text.truncate(who, 0)))
    session.run(lambda: command.truncate(who, 0))
    copy = session.create(b"/copy")
    assert session.run(lambda: session.fs.copy_range(who, text, 0, copy, 0, 1 << 20)) == size
    for opened in (text, command, copy):
        session.close(opened)
    assert session.read(b"/copy") == session.read(LIST)


def test_paths_lead_in_and_out(session: Session) -> None:
    session.mkdir(b"/d")
    session.symlink(b"../.tarbox/layers", b"/d/sym")
    session.write(b"/d/f", b"1")
    put(session, b"/d/sym/new", b"one\n")
    assert session.attr(b"/d/sym/../layers/./new").ino == session.attr(NEW).ino
    assert session.attr(b"/.tarbox/../d/f").ino == session.attr(b"/d/f").ino
    assert session.attr(b"/.tarbox/layers/..").ino == session.attr(b"/.tarbox/").ino
    assert session.read(b"/d/../.tarbox/layers/tree/one/d/../d/f") == b"1"
    assert session.read(b"/.tarbox/layers/tree/one/d/../../one/d/../../../../../d/f") == b"1"
    assert session.attr(b"/.tarbox/layers/tree/one/..").ino == session.attr(b"/.tarbox/layers/tree").ino
    parent, name = session.run(lambda: session.fs.resolve_parent(session.caller, b"/d/sym/new"))
    assert (parent, name) == (session.attr(b"/.tarbox/layers"), b"new")


def test_directories_list_what_can_be_found_in_them(session: Session) -> None:
    put(session, NEW, b"one\n")
    session.write(b"/f", b"1")
    put(session, NEW, b"\n")
    found = []
    stack = [b"/.tarbox"]
    while stack:
        folder = stack.pop()
        for entry in session.entries(folder, limit=2):
            attr = session.attr(folder + b"/" + entry.name)
            assert (attr.ino, attr.kind) == (entry.ino, entry.kind)
            found.append((folder + b"/" + entry.name)[len(b"/.tarbox/") :])
            if attr.is_dir:
                stack.append(folder + b"/" + entry.name)
    second = session.run(lambda: session.fs.layer(session.read(CURRENT).split()[0].decode()))
    assert sorted(found) == sorted([
        b"history", b"history/f", b"last_error", b"layers", b"layers/current", b"layers/diff", b"layers/list", b"layers/list.json",
        b"layers/new", b"layers/switch", b"layers/tree", b"layers/tree/one", b"layers/tree/" + second.short.encode(),
        b"layers/tree/" + second.short.encode() + b"/f", b"stats",
    ])  # fmt: skip


# --- who may


def test_who_may_write_in_the_root_may_move_the_tree(tenant: Tenant) -> None:
    root = tenant.session()
    root.write(b"/f", b"1")
    root.mkdir(b"/private", 0o700)
    root.write(b"/private/f", b"1")
    root.run(lambda: root.fs.setattr(root.caller, ROOT_INO, uid=1000, gid=100, mode=0o775))
    checkpoint(root, "one")
    owner = tenant.session(caller=Caller(1000, 1000, (), 1), enforce=True)
    group = tenant.session(caller=Caller(2000, 100, (), 1), enforce=True)
    other = tenant.session(caller=Caller(3000, 3000, (), 1), enforce=True)
    assert stat.S_IMODE(owner.attr(NEW).mode) == 0o220 and (owner.attr(NEW).uid, owner.attr(NEW).gid) == (1000, 100)
    for number, session in enumerate((owner, group)):
        put(session, NEW, b"by %d user\n" % number)
        put(session, SWITCH, b"one\n")
        assert lines(session, b"/.tarbox/layers/diff/one..") == []
        session.run(lambda: session.fs.access(session.caller, session.attr(NEW).ino, 2))  # noqa: B023
    fails(errno.EACCES, lambda: put(other, NEW, b"mine\n"))
    fails(errno.EACCES, lambda: put(other, SWITCH, b"one\n"))
    fails(errno.EACCES, lambda: other.read(b"/.tarbox/layers/diff/one.."))
    fails(errno.EACCES, lambda: other.run(lambda: other.fs.access(other.caller, other.attr(NEW).ino, 2)))
    assert len(lines(other, LIST)) == 4
    fails(errno.EACCES, lambda: other.read(b"/.tarbox/history/private/f"))
    fails(errno.EACCES, lambda: other.read(b"/.tarbox/layers/tree/one/private/f"))
    fails(errno.EACCES, lambda: other.names(b"/.tarbox/history/private"))
    assert other.read(b"/.tarbox/layers/tree/one/f") == b"1" and other.read(b"/.tarbox/history/f")
