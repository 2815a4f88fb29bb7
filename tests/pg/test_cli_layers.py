"""Layers and branches from the command line: what each command prints and does, and what it refuses."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarbox_cli.session import Session as CommandSession
from tests.pg.cli import Tarbox, fresh

COMMAND = [sys.executable, "-m", "tarbox_cli"]


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        yield command


def made(tarbox: Tarbox, name: str, content: str) -> str:
    """The id of a new layer of that name, in which /f holds that."""
    tarbox("write", "/f", content)
    ident: str = tarbox.json("layer", "create", name)["id"]
    return ident


def test_checkpoint_switch_and_back(tarbox: Tarbox) -> None:
    tarbox("write", "/f", "one")
    said = tarbox("layer", "create", "before refactor", "--message", "all well\nreally").decode()
    ident = tarbox.json("layer", "list")[0]["id"]
    assert said == f"layer before refactor ({ident[:8]}) made: `tarbox layer switch {ident[:8]}` brings this tree back\n"
    tarbox("write", "/f", "two")
    tarbox("mkdir", "/new")
    said = tarbox("layer", "switch", "before refactor").decode()
    left = tarbox.json("layer", "list")[1]
    assert said == f"switched to before refactor ({ident[:8]}); what you had is {left['id'][:8]}: `tarbox layer switch -` goes back\n"
    assert (left["automatic"], left["message"]) == (True, "before the switch to before refactor")
    assert (tarbox("cat", "/f"), tarbox.names()) == (b"one", [b"f"])
    back = tarbox.json("layer", "switch", "-")
    assert (back["switched"], back["layer"]["id"], back["left"]["id"]) == (True, left["id"], ident)
    assert (tarbox("cat", "/f"), tarbox.names()) == (b"two", [b"f", b"new"])
    assert tarbox("layer", "switch", "--layer", left["id"][:6]).decode() == f"nothing to do: this is {left['id'][:8]} already\n"
    assert tarbox("--layer", ident, "layer", "switch", "--json").startswith(b"{")
    assert tarbox("cat", "/f") == b"one"
    assert tarbox.json("layer", "switch", "head")["switched"] is False


def test_names_and_messages(tarbox: Tarbox) -> None:
    layer = tarbox.json("layer", "create", "--name", "n", "-m", "why")
    assert set(layer) == {"id", "name", "message", "parent", "created_at", "sealed_at", "automatic", "branch"}
    assert (layer["name"], layer["message"], layer["parent"], layer["automatic"], layer["branch"]) == ("n", "why", None, False, None)
    unnamed = tarbox.json("layer", "create")
    assert (unnamed["name"], unnamed["parent"]) == (None, layer["id"])
    assert tarbox("layer", "create").decode().startswith("layer ")
    assert "two names" in tarbox.fails("layer", "create", "a", "--name", "b", status=2)
    assert tarbox.fails("layer", "create", "n") == f"a layer named 'n' exists already: {layer['id'][:8]}"
    for bad in ("a/b", "a..b", ".x", "abcdef12", "head", "-"):
        assert tarbox.fails("layer", "create", bad).startswith(f"bad layer name {bad!r}")
    assert tarbox.fails("layer", "create", "-m", "x" * 5000).startswith("bad message")


def test_list_shows_where_one_stands(tarbox: Tarbox) -> None:
    assert [layer["sealed_at"] for layer in tarbox.json("layer", "list")] == [None]
    one, two = made(tarbox, "one", "1"), made(tarbox, "two", "2")
    tarbox("layer", "branch", "side", "one")
    tarbox("--branch", "side", "write", "/f", "side")
    tarbox("layer", "switch", "one", "--branch", "side")
    lines = tarbox("layer", "list").decode().splitlines()
    assert lines[0].split() == ["LAYER", "NAME", "TIME", "BRANCH", "MESSAGE"]
    assert [line[0] for line in lines[1:]] == [" ", " ", "*", "|", "|"]
    assert "(automatic)" in lines[2] and lines[2].endswith("before the switch to one")
    assert lines[3].endswith("main") and two[:8] in lines[4] and one[:8] in lines[5]
    listed = {layer["id"]: layer for layer in tarbox.json("layer", "list", "--branch", "side")}
    assert {layer["branch"] for layer in listed.values()} == {"main", "side", None}
    assert [listed[ident]["beneath"] for ident in (one, two)] == [True, False]
    assert [layer["branch"] for layer in listed.values() if layer["current"]] == ["side"]


def test_current(tarbox: Tarbox) -> None:
    fresh_tenant = tarbox.json("layer", "current")
    assert fresh_tenant["layer"] is None and fresh_tenant["branch"] == "main" and fresh_tenant["open"]["sealed_at"] is None
    assert b"Layer:   none yet\n" in tarbox("layer", "current")
    one = made(tarbox, "one", "1")
    assert tarbox.json("layer", "current")["layer"]["id"] == one
    shown = tarbox("layer", "current").decode().splitlines()
    assert shown[:2] == ["Branch:  main", f"Layer:   one ({one[:8]})"] and shown[3:5] == ["Message: -", "Changed: no"]
    tarbox("touch", "/f")
    assert tarbox.json("layer", "current")["changed"] and b"Changed: yes\n" in tarbox("layer", "current")


def test_reading_commands_look_into_layers(tarbox: Tarbox) -> None:
    tarbox("mkdir", "/d")
    tarbox("write", "/d/gone", "old")
    one = made(tarbox, "one", "1")
    tarbox("rm", "-r", "/d")
    tarbox("write", "/f", "second")
    assert tarbox("ls", "--layer", "one") == b"d\nf\n"
    assert tarbox("--layer", one[:7], "cat", "/d/gone", "/f") == b"old1"
    assert tarbox("tree", "--layer", one, "/d").startswith(b"/d\n\xe2\x94\x94")
    assert tarbox.json("stat", "/f", "--layer", "one")[0]["size"] == 1
    assert tarbox("cat", "--layer", "head", "/f") == b"second"
    tarbox("get", "--layer", "one", "/d", "copy")
    assert (tarbox.folder / "copy" / "gone").read_bytes() == b"old"
    assert tarbox.fails("ls", "--layer", "none").startswith("no layer named 'none'")
    for words in (["write", "/f", "x"], ["rm", "/f"], ["mkdir", "/e"], ["put", "copy", "/"], ["layer", "create"]):
        assert "only read" in tarbox.fails(*words, "--layer", "one", status=2)


def test_where_a_file_was_written(tarbox: Tarbox) -> None:
    ids = {name: made(tarbox, name, name) for name in ("one", "two", "three")}
    tarbox("touch", "/new")
    opened = tarbox.json("layer", "current")["open"]["id"]
    assert f"Layer:    three ({ids['three'][:8]})\n".encode() in tarbox("stat", "/f")
    assert f"Layer:    {opened[:8]}, open\n".encode() in tarbox("stat", "/new")
    tarbox("layer", "squash", "one..two", "--yes")
    shown = tarbox.json("stat", "/f", "--layer", "two")[0]
    assert (shown["layer_id"], shown["layer_name"]) == (ids["two"], "two")
    tarbox("layer", "squash", "two..three", "--yes")
    tarbox("layer", "create", "four")
    assert tarbox.json("stat", "/f")[0]["layer_name"] == "three"


def test_tenant_info_counts_layers_and_branches(tarbox: Tarbox) -> None:
    before = tarbox.json("tenant", "info")
    assert (before["head"], before["layer"], before["branches"], before["layers"]) == ("main", None, ["main"], 0)
    one = made(tarbox, "one", "1")
    tarbox("layer", "branch", "side")
    after = tarbox.json("tenant", "info", "--branch", "side")
    assert (after["head"], after["layer"], after["branches"], after["layers"]) == ("side", one, ["main", "side"], 1)
    assert b"Branches:      main, side\nLayers:        1\n" in tarbox("tenant", "info")


def test_branches(tarbox: Tarbox) -> None:
    one = made(tarbox, "one", "1")
    assert tarbox("layer", "branch", "side").decode() == f"branch side made on layer one ({one[:8]}): `--branch side` works on it\n"
    tarbox("write", "/f", "changed")
    sealed = tarbox.json("layer", "branch", "late")
    assert (sealed["name"], sealed["current"], sealed["layer_name"]) == ("late", False, None) and sealed["layer"] != one
    tarbox("--branch", "side", "write", "/f", "side")
    assert tarbox("cat", "/f") == b"changed" and tarbox("cat", "/f", "--branch", "late") == b"changed"
    status, out, _ = tarbox.here("cat", "/f", env={"TARBOX_BRANCH": "side"})
    assert (status, out) == (0, b"side")
    listed = tarbox.json("layer", "branch", "list")
    assert [(item["name"], item["current"], item["layer_name"]) for item in listed] == [("late", False, None), ("main", True, None), ("side", False, "one")]
    assert set(listed[0]) == {"name", "created_at", "current", "open", "layer", "layer_name"}
    lines = tarbox("layer", "branch").decode().splitlines()
    assert lines == tarbox("layer", "branch", "list").decode().splitlines()
    assert lines[0].split() == ["BRANCH", "ON", "LAYER"] and lines[2].startswith("*  main") and lines[3].endswith(f"one ({one[:8]})")
    assert tarbox("layer", "branch", "delete", "late") == b"branch late deleted, its layers stay\n"
    ended = tarbox("layer", "branch", "delete", "side").decode()
    last = tarbox.json("layer", "list")[-2]["id"][:8]
    assert ended == f"branch side deleted, its layers stay; what it had last is {last}: `tarbox layer branch side {last}` makes it anew\n"
    tarbox("layer", "branch", "side", last)
    assert tarbox.json("layer", "branch", "delete", "side") == {"deleted": "side", "last": None}
    tarbox("layer", "branch", "side", last)
    tarbox("--branch", "side", "touch", "/f")
    gone = tarbox.json("layer", "branch", "delete", "side")
    assert gone["deleted"] == "side" and tarbox("cat", "/f", "--layer", gone["last"]["id"]) == b"side"
    assert tarbox.fails("ls", "--branch", "side").endswith("has no branch 'side': see `tarbox layer branch list`")


def test_what_branches_refuse(tarbox: Tarbox) -> None:
    tarbox("layer", "branch", "side")
    assert tarbox.fails("layer", "branch", "side") == "a branch named 'side' exists already"
    assert tarbox.fails("layer", "branch", "a/b").startswith("bad branch name 'a/b'")
    assert tarbox.fails("layer", "branch", "new", "nowhere").startswith("no layer named 'nowhere'")
    assert tarbox.fails("layer", "branch", "delete", "none").startswith("no branch named 'none'")
    assert tarbox.fails("layer", "branch", "delete", "main") == "branch 'main' is the one in use here and stays"
    assert tarbox.fails("layer", "branch", "delete", "main", "--branch", "side") == "branch 'main' is the main one and stays"
    assert "required: NAME" in tarbox.fails("layer", "branch", "delete", status=2)
    tarbox("layer", "branch", "delete", "side")


def test_diff_names_what_changed(tarbox: Tarbox) -> None:
    assert tarbox("layer", "diff") == b""
    tarbox("write", "/gone", "x")
    one = made(tarbox, "one", "1")
    tarbox("rm", "/gone")
    tarbox("mkdir", "/d")
    made(tarbox, "two", "2")
    tarbox("mv", "/f", "/d/g")
    for words in (["one", "two"], ["one..two"], ["--layer1", "one", "--layer2", "two"], [one[:7], "--layer2", "two"], ["--layer2", "two"]):
        assert tarbox("layer", "diff", *words) == b"A\t/d\nM\t/f\nD\t/gone\n", words
    for words in ([], ["two"], ["two.."], ["two", "head"], ["--layer1", "two"]):
        assert tarbox("layer", "diff", *words) == b"R\t/f\t/d/g\n", words
    [renamed] = tarbox.json("layer", "diff", "two")
    assert (renamed["status"], renamed["path"], renamed["old_path"], renamed["old"]["size"], renamed["new"]["type"]) == ("R", "/d/g", "/f", 1, "file")
    assert tarbox("layer", "diff", "two..one").startswith(b"D\t/d\n")
    assert "too many layers" in tarbox.fails("layer", "diff", "one", "--layer1", "two", status=2)
    assert tarbox.fails("layer", "diff", "one", "none").startswith("no layer named 'none'")


def test_delete(tarbox: Tarbox) -> None:
    for name in ("one", "two", "three"):
        made(tarbox, name, name)
    assert tarbox.fails("layer", "delete", "three", "--yes") == "this branch stands on layer three: switch away from it first"
    assert tarbox.fails("layer", "delete", "head", "--yes").endswith("switch away from it first")
    assert "layer two rests on layer one" in tarbox.fails("layer", "delete", "one", "--yes")
    assert tarbox.fails("layer", "delete", "none", "--yes").startswith("no layer named 'none'")
    tarbox("layer", "switch", "one")
    assert "--yes" in tarbox.fails("layer", "delete", "two", "three", status=2)
    said = tarbox("layer", "delete", "two", "three", "--yes").decode().splitlines()  # what rests on another goes first
    assert [line.split(" (")[0] for line in said] == ["layer three", "layer two"] and said[0].endswith(" deleted")
    assert [layer["name"] for layer in tarbox.json("layer", "list") if layer["sealed_at"]] == ["one"]
    made(tarbox, "four", "4")
    tarbox("layer", "switch", "one")
    status, out, err = tarbox.here("layer", "delete", "one", "four", "--yes", "--json")
    assert status == 1 and b'"name": "four"' in out and err.startswith("tarbox: this branch stands on layer one")
    assert tarbox("cat", "/f") == b"one"


def test_squash(tarbox: Tarbox) -> None:
    ids = [made(tarbox, f"c{n}", str(n)) for n in range(1, 6)]
    assert "--yes" in tarbox.fails("layer", "squash", "c1..c2", status=2)
    assert tarbox("layer", "squash", "c1..c3", "--yes").decode() == f"2 layers squashed into c3 ({ids[2][:8]})\n"
    shown = tarbox.json("layer", "squash", "c3", ids[3][:8], "--yes")
    assert (shown["removed"], shown["layer"]["name"], shown["layer"]["parent"]) == (1, "c4", None)
    assert [layer["name"] for layer in tarbox.json("layer", "list")] == ["c4", "c5", None]
    assert tarbox("cat", "--layer", "c4", "/f") == b"4"
    for words in (["c4"], ["c4.."], ["..c4"]):
        assert "A..B" in tarbox.fails("layer", "squash", *words, "--yes", status=2)
    assert "no run of layers" in tarbox.fails("layer", "squash", "c5..c4", "--yes")
    assert "one layer" in tarbox.fails("layer", "squash", "c5..c5", "--yes")
    assert "still written to" in tarbox.fails("layer", "squash", "c4..head", "--yes")
    tarbox("layer", "branch", "side", "c4")
    assert tarbox.fails("layer", "squash", "c4..c5", "--yes") == "cannot squash across a fork: branch side stands on layer c4"


def test_delete_and_squash_ask_at_a_terminal(tarbox: Tarbox) -> None:
    for n in range(3):
        made(tarbox, f"c{n}", str(n))
    tarbox("layer", "switch", "c1")
    for words, answer, status in ((["delete", "c2"], "no\n", 1), (["delete", "c2"], "yes\n", 0), (["squash", "c0..c1"], "yes\n", 0)):
        leader, follower = pty.openpty()
        process = subprocess.Popen([*COMMAND, "layer", *words], env=tarbox.env, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.close(follower)
        os.write(leader, answer.encode())
        out, err = process.communicate(timeout=60)
        os.close(leader)
        assert process.returncode == status and b"Type yes to go on: " in err
        assert (b"nothing was done" in err) == (out == b"") == bool(status)
    assert [layer["name"] for layer in tarbox.json("layer", "list")] == ["c1", None]


def test_nothing_to_go_back_to_where_that_layer_was_deleted(tarbox: Tarbox) -> None:
    made(tarbox, "one", "1")
    made(tarbox, "two", "2")
    tarbox("layer", "switch", "one")
    tarbox("layer", "delete", "two", "--yes")
    assert "never switched, or the layer it left was deleted" in tarbox.fails("layer", "switch", "-")


def test_messages_are_fit_for_a_terminal(tarbox: Tarbox) -> None:
    message = "a\tb \x1b[31mred\r\nand more"
    assert tarbox.json("layer", "create", "loud", "-m", message)["message"] == message
    escaped = b"a\\tb \\x1b[31mred\\r\n"
    assert tarbox("layer", "list").endswith(escaped) and b"Message: " + escaped in tarbox("layer", "current")
    assert tarbox("cat", "/.tarbox/layers/list").endswith(escaped)


def test_an_empty_name_is_no_name(tarbox: Tarbox) -> None:
    assert "bad branch name ''" in tarbox.fails("layer", "branch", "")
    assert "bad layer name ''" in tarbox.fails("layer", "create", "")
    assert "no layer named ''" in tarbox.fails("layer", "switch", "")


def test_words_that_name_no_layer_or_several(tarbox: Tarbox) -> None:
    for _ in range(17):
        tarbox("layer", "create")
    ids = [layer["id"] for layer in tarbox.json("layer", "list")]
    double = next(digit for digit in "0123456789abcdef" if sum(i.startswith(digit) for i in ids) > 1)
    assert tarbox.fails("layer", "switch", double).startswith(f"{double!r} could be ")
    assert tarbox.fails("layer", "switch", "nowhere") == "no layer named 'nowhere' and none whose id begins so: see `tarbox layer list`"
    assert "nothing to go back to" in tarbox.fails("layer", "switch", "-")
    assert "to which layer?" in tarbox.fails("layer", "switch", status=2)
    assert "to which layer?" in tarbox.fails("layer", "switch", "a", "--layer", "b", status=2)
    tarbox("layer", "branch", "side")
    assert tarbox.fails("layer", "switch", "side") == "'side' is a branch and no layer: `--branch side` works on it"
    assert tarbox.fails("layer", "switch", "n" * 1000) == f"no layer named '{'n' * 64}...' and none whose id begins so: see `tarbox layer list`"
    assert tarbox.fails("layer", "create", "n" * 1000) == f"bad layer name '{'n' * 64}...': it is longer than 128 characters"
    opened = next(item["open"] for item in tarbox.json("layer", "branch") if item["name"] == "side")
    assert "still written to by branch side" in tarbox.fails("layer", "switch", opened)


def test_who_shows_a_layer_that_is_removed_meanwhile_says_so(tarbox: Tarbox, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tarbox, "base", "one")
    made(tarbox, "going", "two")
    assert tarbox("cat", "--layer", "going", "/f") == b"two"
    tarbox("layer", "switch", "base")
    finish = CommandSession.finish

    def late(self: CommandSession, durable: bool) -> None:
        """Somebody else removes the layer before the command is done."""
        monkeypatch.setattr(CommandSession, "finish", finish)
        finish(self, durable)
        tarbox.run("layer", "delete", "going", "--yes")

    monkeypatch.setattr(CommandSession, "finish", late)
    status, _, said = tarbox.here("ls", "--layer", "going", "/")
    assert (status, said) == (1, "tarbox: the layer this stands on was deleted or squashed\n")
