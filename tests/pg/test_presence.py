"""Doors that keep files open: who sees them, who waits for them, and what they hear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tarbox_core.drivers import embedded
from tarbox_core.drivers.dsn import parse_url
from tarbox_core.drivers.presence import Presence, doors, look
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
    try:
        yield presence
    finally:
        presence.leave()


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
        assert ear.changes(0.2) == (frozenset(), False, False)
        ino = mine.attr(b"/f").ino
        other.write(b"/f", b"another's")
        heard = ear.changes(5)
        assert ino in heard.inos and not heard.names
        other.rename(b"/f", b"/g")
        heard = ear.changes(5)
        assert ino in heard.inos and heard.names


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
