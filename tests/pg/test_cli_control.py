"""The control files as the commands on files show them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pg.cli import Tarbox, fresh


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        yield command


def test_layers_by_writing_and_reading_files(tarbox: Tarbox) -> None:
    tarbox("write", "/f", "one\n")
    tarbox("write", "/.tarbox/layers/new", given=b"before refactor\nall well\n")
    tarbox("write", "/f", "two\n")
    (layer, _) = tarbox.json("layer", "list")
    assert (layer["name"], layer["message"]) == ("before refactor", "all well")
    current = tarbox("cat", "/.tarbox/layers/current")
    assert current == f"{layer['id'][:8]} before refactor\nbranch main\n".encode()
    assert tarbox("cat", "/.tarbox/layers/list.json") == tarbox("layer", "list", "--json")
    assert tarbox("cat", "/.tarbox/layers/diff/before refactor..") == b"M\t/f\n" == tarbox("diff", "before refactor", "head", "--name-status")
    assert tarbox("cat", "/.tarbox/layers/tree/before refactor/f", "/.tarbox/layers/tree/before refactor/../before refactor/f") == b"one\n" * 2
    assert [line.split()[0] for line in tarbox("cat", "/.tarbox/history/f").splitlines()] == [b"head", b"before"]
    tarbox("write", "/.tarbox/layers/switch", given=current)
    assert tarbox("cat", "/f") == b"one\n"
    tarbox("write", "/.tarbox/layers/switch", "-")
    assert tarbox("cat", "/f") == b"two\n"


def test_a_refusal_gives_its_reason(tarbox: Tarbox) -> None:
    assert tarbox.fails("write", "/.tarbox/layers/new", "a/b").startswith("/.tarbox/layers/new: bad layer name 'a/b'")
    assert tarbox.fails("write", "/.tarbox/layers/switch", "nowhere").startswith("/.tarbox/layers/switch: no layer named 'nowhere'")
    for words in (("rm", "/.tarbox/layers/list"), ("mv", "/.tarbox", "/x"), ("chmod", "600", "/.tarbox/layers/list"), ("mkdir", "/.tarbox/x")):
        assert tarbox.fails(*words).endswith("operation not permitted")
    status, _, said = tarbox.here("rm", "-r", "/.tarbox")
    assert status == 1 and all(line.endswith("operation not permitted") for line in said.splitlines())
    assert tarbox.fails("mkdir", "/.tarbox") == "/.tarbox: file exists"
    assert tarbox.fails("cat", "/.tarbox/layers/new") == "/.tarbox/layers/new: permission denied"


def test_what_was_sealed_is_copied_back(tarbox: Tarbox, tmp_path: Path) -> None:
    tarbox("mkdir", "-p", "/d/e")
    tarbox("write", "/d/e/f", "one\n", "--mode", "600")
    tarbox("ln", "-s", "f", "/d/e/sym")
    tarbox("layer", "create", "good")
    tarbox("rm", "-r", "/d")
    tarbox("cp", "-a", "/.tarbox/layers/tree/good/d", "/d")
    assert tarbox("diff", "good", "head", "--name-status", "--exit-code") == b""
    tarbox("get", "/.tarbox/layers/tree/good/d", str(tmp_path / "out"))
    assert (tmp_path / "out" / "e" / "sym").read_bytes() == b"one\n"
    tarbox("cp", "/.tarbox/layers/list", "/list")
    assert tarbox("cat", "/list") == tarbox("cat", "/.tarbox/layers/list")
    assert tarbox.names("/") == [b"d", b"list"]
    assert tarbox.names("/.tarbox/layers/tree") == [b"good"]
    assert b".tarbox" not in tarbox("tree", "-a", "/") and b"switch" in tarbox("tree", "/.tarbox/layers")
    stat = tarbox.json("stat", "/.tarbox/layers/tree/good/d/e/f")
    assert stat[0]["size"] == 4 and stat[0]["mode"] == "0600"
