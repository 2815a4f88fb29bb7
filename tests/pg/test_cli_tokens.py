"""`tarbox token`: for whom, for which path, and how tokens are shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pg.cli import Tarbox, fresh


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        command("mkdir", "-p", "/a/b c/d")
        command("write", "/a/file", "x")
        command("ln", "-s", "a/b c", "/link")
        yield command


def test_a_token_is_for_a_directory(tarbox: Tarbox) -> None:
    made = tarbox.json("token", "create", "--path", "/a/b c", "--name", "part", "--read-only")
    assert (made["tenant"], made["path"], made["name"], made["read_only"]) == (tarbox.tenant, "/a/b c", "part", True)
    assert tarbox.json("token", "create", "--path", "/a//b c/./")["path"] == "/a/b c"
    for whole in (("--path", "/"), ()):
        assert tarbox.json("token", "create", *whole)["path"] is None
    assert [token["path"] for token in tarbox.json("token", "list")] == ["/a/b c", "/a/b c", None, None]
    lines = [line.split() for line in tarbox("token", "list").decode().splitlines()]
    assert lines[0][:4] == ["ID", "TENANT", "PATH", "KIND"]
    assert lines[1][2:6] == ["'/a/b", "c'", "token", "read"] and lines[3][2:5] == ["/", "token", "write"]
    assert "part, /a/b c" in tarbox("audit", "--operation", "token_create").decode()


def test_what_is_no_directory_of_the_tree_has_no_token(tarbox: Tarbox) -> None:
    assert tarbox.fails("token", "create", "--path", "/none") == "/none: no such file or directory"
    assert tarbox.fails("token", "create", "--path", "/a/file") == "/a/file: not a directory"
    assert tarbox.fails("token", "create", "--path", "/.tarbox/layers") == "/.tarbox/layers: no such file or directory"
    for other in ("/link", "/link/", "/a/b c/d/.."):
        told = tarbox.fails("token", "create", "--path", other, status=2)
        assert "leads to '/a/b c'" in told and "--path '/a/b c'" in told
    assert "no tenant" in tarbox.fails("--tenant", "nobody", "token", "create", "--path", "/a")
    assert tarbox.json("token", "list") == []


def test_paths_and_tokens_are_completed(tarbox: Tarbox) -> None:
    assert b"/a/b c/" in tarbox("__complete", "fish", "--", "token", "create", "--path", "/a/b")
    first, second = (tarbox.json("token", "create", "--name", name)["id"] for name in ("first", "second"))
    tarbox("token", "revoke", str(first))
    told = tarbox("__complete", "fish", "--", "token", "revoke", "").decode()
    assert f"\n{second}\ttoken for {tarbox.tenant}: second\n" in told and f"\n{first}\t" not in told


def test_one_that_is_not_known_keeps_no_other_from_being_revoked(tarbox: Tarbox) -> None:
    first, second = (tarbox.json("token", "create")["id"] for _ in "12")
    huge = str(1 << 70)
    status, out, said = tarbox.here("token", "revoke", str(first), "999999", huge, str(second))
    assert (status, out) == (1, f"revoked: {first}, {second}\n".encode())
    assert said == "".join(f"tarbox: no token has the id {each}: see `tarbox token list`\n" for each in ("999999", huge))
    assert tarbox.json("token", "list") == []
