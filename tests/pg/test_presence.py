"""Doors that keep files open: who sees them, who waits for them, and what they hear."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tarbox_core import statements as sql
from tarbox_core.drivers import embedded
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.drivers.presence import Changes, Presence, doors, look, quiet, store
from tarbox_core.effects import many
from tarbox_core.errors import ConnectionLost, FsError, LayerError, TarboxError
from tarbox_core.filesystem import OpenFile
from tarbox_core.session import presence_lock
from tests.conftest import PgServer
from tests.pg.cli import Tarbox, fresh
from tests.tenants import Session, Tenant


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        yield command


@contextmanager
def present(session: Session, url: str) -> Iterator[Presence]:
    presence = Presence(parse_url(url), session.fs)
    presence.look()
    pid = presence.pid
    try:
        yield presence
    finally:
        presence.leave()
        deadline = time.monotonic() + 5
        while pid in session.run(lambda: many(sql.PRESENT_PIDS(presence_lock(session.fs.tenant.id))))[0][0]:  # until the server has seen it
            assert time.monotonic() < deadline


def hears(ear: Presence, enough: Callable[[Changes], bool]) -> Changes:
    """Listen until what was heard is enough."""
    heard, deadline = Changes(), time.monotonic() + 5
    while not enough(heard):
        assert time.monotonic() < deadline, heard
        heard = heard.and_then(ear.changes(0.5))
    return heard


def test_a_door_sees_the_others_and_not_itself(make_tenant: Callable[..., Tenant], schema_url: str) -> None:
    tenant = make_tenant()
    one, two, elsewhere = tenant.session(alone=False), tenant.session(alone=False), make_tenant().session(alone=False)
    with present(one, schema_url) as first:
        assert one.fs.session.alone
        look(elsewhere.driver, elsewhere.fs)
        assert elsewhere.fs.session.alone
        with present(two, schema_url):
            assert not two.fs.session.alone
            first.look()
            assert not one.fs.session.alone
            assert doors(one.driver, one.fs.tenant.id) == 2
        first.look()
        assert one.fs.session.alone


def test_a_door_hears_what_others_change_and_not_itself(tenant: Tenant, schema_url: str) -> None:
    mine, other = tenant.session(alone=False), tenant.session(alone=False)
    with present(mine, schema_url) as ear:
        mine.fs.session.alone = False
        mine.write(b"/f", b"mine")
        assert ear.changes(0.2) == Changes()
        ino = mine.attr(b"/f").ino
        other.write(b"/f", b"another's")
        heard = hears(ear, lambda heard: ino in heard.inos)
        assert not heard.names
        other.rename(b"/f", b"/g")
        assert ino in hears(ear, lambda heard: heard.names).inos


def test_a_mounted_tenant_is_not_deleted_nor_its_server_stopped(
    tarbox: Tarbox, schema_url: str, monkeypatch: pytest.MonkeyPatch, tenant: Tenant, tmp_path: Path
) -> None:
    name = tenant.info.name
    running = embedded.Status("running", tmp_path, tmp_path / "log", 1, schema_url, "18")
    monkeypatch.setattr(embedded, "status", lambda: running)
    monkeypatch.setattr(embedded, "stop", lambda: pytest.fail("it was stopped under a mount"))
    with present(tenant.session(alone=False), schema_url):
        assert f"tenant {name} is mounted" in tarbox.fails("tenant", "delete", name, "--yes")
        assert f"still mounted: {name};" in tarbox.fails("database", "stop")
    monkeypatch.setattr(embedded, "stop", lambda: True)
    assert b"has stopped" in tarbox("database", "stop")


# --- being quiet while a head is moved


class Listener:
    """A door with a presence, whose ear is a thread: it answers who asks for quiet, unless it is told not to."""

    def __init__(self, session: Session, url: str, *, held: bool = True) -> None:
        self.session = session
        self.quiet = threading.Event()  # it was asked, and has answered
        self.heard = Changes()
        self.over = False
        self._held = held
        self._presence = Presence(parse_url(url), session.fs)
        self._presence.look()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self.over:
            self.heard = self.heard.and_then(self._presence.changes(0.05))
            if self._presence.asked:
                self.quiet.set()
                self._presence.answer(held=self._held)
                self.heard = self.heard.and_then(self._presence.until_moved(lambda: self.over))
                self.quiet.clear()

    def close(self) -> None:
        self.over = True
        self._thread.join()
        self._presence.leave()


@pytest.fixture
def listening(schema_url: str) -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def listen(session: Session, **how: bool) -> Listener:
        made.append(Listener(session, schema_url, **how))
        return made[-1]

    yield listen
    for listener in made:
        listener.close()


def checkpoint(session: Session, url: str, name: str, timeout: float = 5.0) -> None:
    with quiet(parse_url(url), session.driver, session.fs, timeout=timeout) as others:
        session.run(lambda: others.guard(session.fs.checkpoint(session.caller, name)), durable=True)


def test_who_moves_a_head_alone_asks_nobody(tenant: Tenant, schema_url: str) -> None:
    session = tenant.session()
    checkpoint(session, schema_url, "one")
    assert session.run(lambda: session.fs.layer("one")).name == "one"


def test_other_doors_are_quiet_until_the_head_has_moved(tenant: Tenant, schema_url: str, listening: Callable[..., Listener]) -> None:
    mover, other = tenant.session(), listening(tenant.session(alone=False))
    with quiet(parse_url(schema_url), mover.driver, mover.fs) as others:
        assert other.quiet.is_set() and not other.heard.moved
        mover.run(lambda: others.guard(mover.fs.checkpoint(mover.caller, "one")), durable=True)
        deadline = time.monotonic() + 5
        while other.quiet.is_set():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert other.heard.moved
    with pytest.raises(LayerError, match="exists already"):
        checkpoint(mover, schema_url, "one")  # refused: the others are let go all the same
    deadline = time.monotonic() + 5
    while other.quiet.is_set():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_doors_on_other_branches_and_views_go_on(tenant: Tenant, schema_url: str, listening: Callable[..., Listener]) -> None:
    mover = tenant.session()
    checkpoint(mover, schema_url, "one")
    mover.run(lambda: mover.fs.make_branch(mover.caller, "side"))
    side, view = listening(tenant.session(alone=False, branch="side")), listening(tenant.view("one"))
    with quiet(parse_url(schema_url), mover.driver, mover.fs) as others:
        assert not side.quiet.is_set() and not view.quiet.is_set()
        mover.run(lambda: others.guard(mover.fs.checkpoint(mover.caller, "two")), durable=True)


def test_a_door_that_does_not_answer_or_cannot_refuses_the_move(tenant: Tenant, schema_url: str, listening: Callable[..., Listener]) -> None:
    mover, mute = tenant.session(), tenant.session(alone=False)
    with present(mute, schema_url) as silent:
        started = time.monotonic()
        with pytest.raises(LayerError, match=r"another mount of the tenant does not answer within 0\.5 s") as caught:
            checkpoint(mover, schema_url, "one", timeout=0.5)
        assert caught.value.errno == errno.EBUSY and time.monotonic() - started < 3
        assert silent.changes(5) == silent.until_moved(lambda: False) == Changes()  # it wakes, and it is all over
    checkpoint(mover, schema_url, "one")  # it is gone, and no longer counts
    listening(mute, held=False)
    with pytest.raises(LayerError, match="cannot store"):
        checkpoint(mover, schema_url, "two")


def test_the_others_patience_has_an_end(
    tenant: Tenant, schema_url: str, listening: Callable[..., Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tarbox_core.drivers.presence.QUIET_FOR", 1.0)
    monkeypatch.setattr("tarbox_core.drivers.presence.MARGIN", 0.5)
    mover, other = tenant.session(), listening(tenant.session(alone=False))
    with pytest.raises(LayerError, match="nothing was changed"), quiet(parse_url(schema_url), mover.driver, mover.fs) as others:
        time.sleep(1.2)
        assert not other.quiet.is_set()
        mover.run(lambda: others.guard(mover.fs.checkpoint(mover.caller, "late")), durable=True)
    assert [layer.name for layer in mover.run(mover.fs.layers)] == [None]


def test_a_door_that_dies_while_the_others_are_quiet_lets_them_go(
    tenant: Tenant, schema_url: str, listening: Callable[..., Listener], pg_server: PgServer
) -> None:
    mover, other = tenant.session(), listening(tenant.session(alone=False))
    admin = pg_server.connect(urlsplit(schema_url).path.removeprefix("/"))
    with quiet(parse_url(schema_url), mover.driver, mover.fs):
        assert other.quiet.is_set()
        admin.run("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock'")
        deadline = time.monotonic() + 5
        while other.quiet.is_set():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    admin.close()
    checkpoint(mover, schema_url, "one")


def test_two_who_move_the_same_head_wait_for_each_other(tenant: Tenant, schema_url: str, listening: Callable[..., Listener]) -> None:
    one, two = tenant.session(), tenant.session()
    listening(tenant.session(alone=False))
    failures: list[Exception] = []

    def several(session: Session, word: str) -> None:
        try:
            for n in range(5):
                checkpoint(session, schema_url, f"{word}{n}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=several, args=(session, word)) for session, word in ((one, "x"), (two, "y"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(one.run(one.fs.layers)) == 11


def test_a_view_is_seen_by_who_would_delete_its_layer(tenant: Tenant, schema_url: str) -> None:
    session = tenant.session()
    session.write(b"/a", b"1")
    session.run(lambda: session.fs.checkpoint(session.caller, "one"))
    session.write(b"/a", b"2")
    session.run(lambda: session.fs.checkpoint(session.caller, "two"))
    session.run(lambda: session.fs.switch(session.caller, "one"))
    with present(tenant.view("two"), schema_url), pytest.raises(LayerError, match="mounted read-only"):
        session.run(lambda: session.fs.delete_layer(session.caller, "two"))
    session.run(lambda: session.fs.delete_layer(session.caller, "two"))


def test_whoever_listens_can_be_called_off(tenant: Tenant, schema_url: str) -> None:
    session = tenant.session(alone=False)
    with present(session, schema_url) as presence:
        raised: list[TarboxError] = []

        def listen() -> None:
            try:
                presence.changes(30)
            except TarboxError as error:
                raised.append(error)

        listener = threading.Thread(target=listen)
        listener.start()
        time.sleep(0.05)  # so that it waits
        presence.abort()
        listener.join(5)
        assert [type(error) for error in raised] == [ConnectionLost]
        presence.abort()  # of nothing


def test_what_is_dirty_is_stored_before_a_head_moves(tenant: Tenant) -> None:
    session = tenant.session()
    opened = session.create(b"/f")
    session.run(lambda: opened.write(session.caller, 0, b"x"))
    with pytest.raises(LayerError, match="/f cannot be stored, so no layer is made") as refused:
        store(session.fs, failing)
    assert (refused.value.errno, opened.dirty) == (errno.ENOSPC, True)
    store(session.fs, lambda file: session.run(lambda: file.flush(session.caller)))
    assert not opened.dirty
    session.close(opened)


def failing(opened: OpenFile) -> None:
    raise FsError(errno.ENOSPC)
