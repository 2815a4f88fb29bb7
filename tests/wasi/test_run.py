"""`tarbox wasi run`: a guest's streams, status, arguments and directories are what the command line says."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from tarbox_cli.progress import patiently
from tests.pg.cli import Tarbox
from tests.wasi.helpers import PATIENCE, compiled, finish, guest, start, wasi_run

ROFS = 69  # of preview1


def test_a_guest_prints_and_that_is_all(tarbox: Tarbox) -> None:
    assert wasi_run(tarbox, guest("hello")) == (0, b"hello, tenant\n", "")


def test_the_status_is_the_guests_own(tarbox: Tarbox) -> None:
    for code, status in ((7, 7), (255, 255), (256, 1)):
        assert wasi_run(tarbox, guest("exit"), str(code)) == (status, b"", "")


def test_what_stands_behind_the_program_is_its_own(tarbox: Tarbox) -> None:
    words = ["--tenant", "nobody", "-x", "--", "--", "a b", "", "--help"]
    ended = wasi_run(tarbox, "--env", "A=1", "--env", "B=x=y", "--env", "A=2", guest("echo"), *words)
    assert (ended.status, ended.said) == (0, "")
    assert ended.out.decode().split("\0") == ["echo.wat", *words, "A=2", "B=x=y", ""]


def test_a_guest_sees_nothing_of_the_environment(tarbox: Tarbox) -> None:
    assert wasi_run(tarbox, "--", guest("echo"), env={"SECRET": "x"}) == (0, b"echo.wat\0", "")


def test_a_file_goes_through_the_tenant(tarbox: Tarbox) -> None:
    content = bytes(range(256)) * 80
    assert wasi_run(tarbox, guest("copy"), given=content) == (0, content, "")
    assert tarbox("cat", "/kept.txt") == content
    operations = {record["operation"] for record in tarbox.json("audit", "--path", "/kept.txt")}
    assert {"create", "write"} & operations
    assert list(tarbox.folder.rglob("kept.txt")) == []


def test_directories_by_other_names(tarbox: Tarbox) -> None:
    tarbox("mkdir", "-p", "/projects/a", "/data")
    assert wasi_run(tarbox, "--dir", "/work=/projects/a", guest("copy"), given=b"1").status == 0
    assert wasi_run(tarbox, "--dir=/data", guest("copy"), given=b"2").status == 0
    assert wasi_run(tarbox, "--dir", ".=/data/../projects", guest("copy"), given=b"3").status == 0
    assert [tarbox("cat", f"{folder}/kept.txt") for folder in ("/projects/a", "/data", "/projects")] == [b"1", b"2", b"3"]
    assert tarbox.names("/") == [b"data", b"projects"]


def test_a_stream_that_is_closed_is_nothing_else(tarbox: Tarbox) -> None:
    """A descriptor that is free would be the next connection's."""
    for closed in ((0,), (1,), (2,), (0, 1, 2)):
        process = start(tarbox, guest("copy"), preexec_fn=partial(_close, closed))
        ended = finish(process, None if 0 in closed else b"x")
        assert (ended.status, ended.said) == (0, "")
        assert ended.out == (b"x" if closed == (2,) else b"")
        assert tarbox("cat", "/kept.txt") == (b"" if 0 in closed else b"x")


def _close(streams: tuple[int, ...]) -> None:
    for stream in streams:
        os.close(stream)


def test_read_only_changes_nothing(tarbox: Tarbox) -> None:
    assert wasi_run(tarbox, "--read-only", guest("copy"), given=b"x") == (ROFS, b"", "")
    assert tarbox.names() == []


def test_a_layer_is_shown_as_it_was(tarbox: Tarbox) -> None:
    tarbox("write", "/kept.txt", "old")
    tarbox("layer", "create", "first")
    assert wasi_run(tarbox, "--layer", "first", guest("copy"), given=b"new") == (ROFS, b"", "")
    assert tarbox("cat", "/kept.txt") == b"old"


def test_a_branch_keeps_what_it_is_given(tarbox: Tarbox) -> None:
    tarbox("layer", "branch", "try")
    assert wasi_run(tarbox, "--branch", "try", guest("copy"), given=b"x").status == 0
    assert (tarbox.names(), tarbox("cat", "--branch", "try", "/kept.txt")) == ([], b"x")


def test_a_checkpoint_before_and_what_changed_after(tarbox: Tarbox) -> None:
    tarbox("write", "/old.txt", "old")
    ended = wasi_run(tarbox, "--checkpoint", guest("copy"), given=b"new")
    (layer,) = (layer for layer in tarbox.json("layer", "list") if layer["sealed_at"])
    told, *changed = ended.said.splitlines()
    assert (ended.status, ended.out) == (0, b"new")
    assert told == f"tarbox: layer {layer['id'][:8]} made: `tarbox layer switch {layer['id'][:8]}` brings this tree back"
    assert layer["message"] == "before wasi run copy.wat" and changed == ["A\t/kept.txt"]
    tarbox("layer", "switch", layer["id"])
    assert tarbox.names() == [b"old.txt"]
    assert wasi_run(tarbox, "--checkpoint", guest("hello")).said.splitlines()[1:] == ["tarbox: nothing changed"]


def test_a_run_as_one_document(tarbox: Tarbox) -> None:
    ended = wasi_run(tarbox, "--json", "--checkpoint", guest("copy"), given=b"x")
    shown = json.loads(ended.said)
    assert (ended.out, shown["exit_code"], shown["reason"], shown["trap"]) == (b"x", 0, "exit", None)
    assert (shown["layer"]["message"], [(one["status"], one["path"]) for one in shown["changes"]]) == ("before wasi run copy.wat", [("A", "/kept.txt")])
    ended = wasi_run(tarbox, "--json", guest("trap"))
    shown = json.loads(ended.said)
    assert (ended.status, shown["exit_code"], shown["reason"], shown["layer"], shown["changes"]) == (134, 134, "trap", None, None)


def test_a_program_of_the_tenants_own(tarbox: Tarbox) -> None:
    tarbox("mkdir", "/bin")
    tarbox("write", "/bin/hello.wasm", given=compiled(guest("hello").read_text()))
    assert wasi_run(tarbox, "tarbox:/bin/hello.wasm") == (0, b"hello, tenant\n", "")
    ended = wasi_run(tarbox, "tarbox:/bin/none.wasm")
    assert (ended.status, ended.line()) == (126, "tarbox:/bin/none.wasm: no such file or directory")
    ended = wasi_run(tarbox, "tarbox:")
    assert (ended.status, ended.line()) == (2, "tarbox: wants a path of the tenant behind it (see tarbox wasi run --help)")


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_compiling_is_told_where_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal. What is quick, and what goes elsewhere, goes without a word."""
    screen, file = Screen(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    assert patiently(lambda: 7, "quick") == 7
    assert patiently(lambda: _until(screen.getvalue), "slow", after=0.01) == "tarbox: slow\n"
    monkeypatch.setattr(sys, "stderr", file)
    assert patiently(lambda: time.sleep(0.05), "slow", after=0.01) is None
    assert file.getvalue() == ""


def _until(value: Callable[[], str]) -> str:
    deadline = time.monotonic() + PATIENCE
    while not value().endswith("\n") and time.monotonic() < deadline:
        time.sleep(0.01)
    return value()


def test_an_interrupt_does_not_wait_for_the_compiler() -> None:
    """It hears nothing, and is left alone."""
    let_go = threading.Event()
    ended = []

    def compiler() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        ended.append(let_go.wait(PATIENCE))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            patiently(compiler, "slow")
        assert ended == []
    finally:
        signal.signal(signal.SIGINT, before)
        let_go.set()
