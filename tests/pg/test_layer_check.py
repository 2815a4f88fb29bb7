"""fsck names what is wrong between layers, lines, branches and rows, and mends what it says it mends; a sealed tree is checked too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tarbox_core import check
from tarbox_core.errors import FsError
from tarbox_core.layer import Layer
from tests.conftest import PgServer
from tests.pg.cli import fresh
from tests.tenants import ROOT, Session, Tenant

Damage = Callable[..., None]


@pytest.fixture
def damage(pg_server: PgServer, schema_url: str, tenant: Tenant) -> Iterator[Damage]:
    """A statement behind the back of the core that must change something; `:t` is the tenant."""
    connection: Any = pg_server.connect(urlsplit(schema_url).path[1:])

    def run(sql: str, **values: object) -> None:
        tenant.damaged = True
        connection.run(sql, t=tenant.info.id, **values)
        assert connection.row_count > 0, "the damage was not done"

    yield run
    connection.close()


@pytest.fixture
def layers(session: Session) -> list[Layer]:
    """Two layers on the main branch, `one` and `two`; a branch `side` that rests on `one`; and changes on both since."""
    made: list[Layer] = []
    for name in ("one", "two"):
        session.write(b"/file", name.encode() * 5000)
        session.write(b"/" + name.encode(), b"small")
        sealed = session.run(lambda name=name: session.fs.checkpoint(ROOT, name))  # type: ignore[misc]
        assert sealed is not None
        made.append(sealed)
    session.run(lambda: session.fs.make_branch(ROOT, "side", "one"))
    session.write(b"/new", b"now")
    return made


def kinds(findings: list[check.Finding]) -> list[str]:
    return [finding.kind for finding in findings]


def mended(tenant: Tenant, *expected: str) -> None:
    """fsck finds this and only this, repairing says what it did to each, and afterwards all is well."""
    assert kinds(tenant.fsck()) == list(expected)
    repaired = tenant.fsck(repair=True)
    assert kinds(repaired) == list(expected) and all(finding.repaired for finding in repaired), repaired
    assert tenant.fsck(layers=True) == []
    tenant.damaged = False


def test_sound_layers_have_no_findings(tenant: Tenant, layers: list[Layer]) -> None:
    assert tenant.fsck(layers=True) == []
    assert tenant.fsck(repair=True, layers=True) == []


def test_a_branch_whose_layer_is_gone(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    damage("delete from layer where tenant = :t and layer = :l", l=session.fs.session.layer)
    mended(tenant, "lost-layer")
    assert session.read(b"/new") == b"now"
    assert session.run(session.fs.current).parent == layers[1].stamp


def test_a_branch_that_writes_to_a_sealed_layer(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    damage("update layer set sealed_at = now() where tenant = :t and layer = :l", l=session.fs.session.layer)
    assert kinds(tenant.fsck()) == ["sealed-head"]
    assert [finding.repaired for finding in tenant.fsck(repair=True)] == [None]


def test_an_open_layer_without_a_branch(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    damage("delete from head where tenant = :t and name = 'side'")
    mended(tenant, "open-layer")
    assert [layer.branch for layer in session.run(session.fs.layers)] == [None, None, "main", None]


def test_two_branches_that_write_to_one_layer(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    damage("insert into head (tenant, name, layer, visible) select tenant, 'twin', layer, visible from head where tenant = :t and name = 'main'")
    assert kinds(tenant.fsck()) == ["shared-layer"]


@pytest.mark.parametrize("wrong", ["null", "4294967295", "layer"])
def test_a_layer_that_rests_on_something_else(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage, wrong: str) -> None:
    damage(f"update layer set parent = {wrong} where tenant = :t and name = 'two'")
    mended(tenant, "layer-parent")
    assert session.run(lambda: session.fs.layer("two")).parent == layers[0].stamp


def test_a_layer_that_others_rest_on_is_gone(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    damage("delete from layer where tenant = :t and name = 'one'")
    mended(tenant, "layer-parent", "layer-parent")  # of `two`, and of what `side` writes to
    assert session.read(b"/one") == tenant.view("two").read(b"/one") == b"small"


def test_a_line_that_sees_something_else(tenant: Tenant, layers: list[Layer], damage: Damage) -> None:
    damage("update line set below = '{}' where tenant = :t and fork is not null")
    mended(tenant, "line-below")
    assert tenant.session(branch="side").names() == [b"file", b"one"]


def test_a_line_that_grew_on_nothing(tenant: Tenant, layers: list[Layer], damage: Damage) -> None:
    damage("update line set fork = 99::int8 << 32 where tenant = :t and fork is not null")
    assert kinds(tenant.fsck()) == ["line-fork", "lost-line"]


def test_a_branch_that_sees_something_else(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    damage("update head set visible = int8multirange(int8range(layer, layer, '[]')) where tenant = :t and name = 'side'")
    mended(tenant, "head-sees")
    assert tenant.session(branch="side").names() == [b"file", b"one"]


def test_a_branch_that_would_switch_back_to_nothing(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    damage("update head set previous = 4294967398 where tenant = :t and name = 'main'")
    mended(tenant, "head-previous")
    with pytest.raises(Exception, match="nothing to go back to"):
        session.run(lambda: session.fs.switch(ROOT, "-"))


@pytest.mark.parametrize("stamp", [99 << 32 | 1, 1 << 32 | 99], ids=["of no line", "above its line"])
def test_rows_that_nobody_sees(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage, stamp: int) -> None:
    ino = session.attr(b"/file").ino
    session.run(lambda: session.fs.setxattr(ROOT, ino, b"user.x", b"y"))
    for table, rest in {"dentry": "parent, name, {}, ino, kind", "extent": "ino, chunk, {}, hashes", "xattr": "ino, name, {}, value"}.items():
        damage(f"insert into {table} ({rest.format('layer')}, tenant) select {rest.format(':l')}, tenant from {table} where tenant = :t and ino = :i limit 1",
               l=stamp, i=ino)  # fmt: skip
    findings = tenant.fsck()
    assert kinds(findings) == ["lost-rows", "stray"]
    assert findings[0].text.startswith(f"3 rows of layer {stamp >> 32}.{stamp & 0xFFFFFFFF}")
    assert all(finding.repaired for finding in tenant.fsck(repair=True))
    assert tenant.fsck(layers=True) == []
    tenant.damaged = False


def test_damage_in_a_sealed_tree(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    ino = session.attr(b"/file").ino
    session.unlink(b"/file")
    damage("update inode set nlink = 7 where tenant = :t and ino = :i and layer = :l", i=ino, l=layers[0].stamp)
    damage("update inode set size = 3 where tenant = :t and ino = :i and layer = :l", i=ino, l=layers[1].stamp)
    assert tenant.fsck() == []
    findings = tenant.fsck(layers=True)
    assert [(finding.kind, finding.ino, finding.text.split(":")[0]) for finding in findings] == [
        ("wrong-links", ino, "in layer one"), ("wrong-content", ino, "in layer two"), ("past-end", ino, "in layer two"), ("wrong-blocks", ino, "in layer two"),
    ]  # fmt: skip


def test_damage_on_another_branch(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    side = tenant.session(branch="side")
    ino = side.write(b"/file", b"on the side")
    damage("update inode set nlink = 7 where tenant = :t and ino = :i and layer = :l", i=ino, l=side.fs.session.layer)
    assert tenant.fsck() == []
    assert [finding.text.split(":")[0] for finding in tenant.fsck(layers=True)] == ["on branch side"]


def test_damage_that_several_layers_see_is_told_once(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    damage("update dentry set kind = 10 where tenant = :t and name = :n", n=b"one")
    assert kinds(tenant.fsck(layers=True)) == ["wrong-type"]


def test_what_is_unlinked_in_a_sealed_layer_goes_with_the_next_gc(tenant: Tenant, session: Session) -> None:
    session.write(b"/open", b"x" * 20_000)
    opened = session.open(b"/open")
    session.unlink(b"/open")
    session.run(lambda: session.fs.checkpoint(ROOT, "one"))
    assert session.run(lambda: opened.read(ROOT, 0, 1 << 20)) == b"x" * 20_000
    session.close(opened)
    assert tenant.fsck(layers=True) == []  # no damage
    swept = tenant.gc()
    assert swept.unlinked == 1 and swept.blocks > 0
    assert tenant.fsck(layers=True) == []


def test_gc_leaves_nothing_of_what_was_unlinked_in_several_layers(tenant: Tenant, session: Session) -> None:
    session.write(b"/open", b"x" * 20_000)
    opened = session.open(b"/open", write=True)
    session.unlink(b"/open")
    session.run(lambda: session.fs.checkpoint(ROOT, "one"))
    session.run(lambda: opened.write(ROOT, 0, b"y"))
    session.run(lambda: opened.flush(ROOT))
    session.close(opened)
    assert tenant.gc().unlinked == 2
    assert tenant.fsck(layers=True) == []


def test_repair_judges_by_where_the_branch_stands(tenant: Tenant, session: Session, layers: list[Layer], damage: Damage) -> None:
    """A session that has not heard of a switch must not mend the layer it was on."""
    other = tenant.session()
    session.run(lambda: session.fs.switch(ROOT, "one"))
    damage("update dentry set kind = 10 where tenant = :t and name = :n and layer = :l", n=b"one", l=layers[0].stamp)
    findings = other.run(lambda: check.fsck(other.fs, repair=True))
    assert kinds(findings) == ["wrong-type"]
    assert other.fs.session.layer == session.fs.session.layer
    assert session.attr(b"/one").kind == 8 and tenant.fsck() == []


def test_repair_in_a_view_is_refused(tenant: Tenant, session: Session, layers: list[Layer]) -> None:
    view = tenant.view("one")
    with pytest.raises(FsError):
        view.run(lambda: check.fsck(view.fs, repair=True))
    assert view.run(lambda: check.fsck(view.fs)) == []


def test_the_command(schema_url: str, tmp_path: Path) -> None:
    with fresh(schema_url, tmp_path) as tarbox:
        tarbox("write", "/a", given=b"text")
        tarbox("layer", "create", "--name", "one")
        assert b"clean" in tarbox("fsck", "--layers")
        assert json.loads(tarbox("fsck", "--layers", "--json"))["clean"] is True
