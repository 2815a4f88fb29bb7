"""Completion of `tarbox wasi run`: its options and the tenant's directories before the program, nothing of ours behind it."""

from __future__ import annotations

from tests.pg.cli import Tarbox


def asked(tarbox: Tarbox, *words: str) -> tuple[str, list[str]]:
    """The kind of what could stand in the place of the last word, and the candidates."""
    kind, *lines = tarbox("__complete", "zsh", "--", "wasi", *words).decode().splitlines()
    return kind, [line.partition("\t")[0] for line in lines]


def test_the_commands_of_the_family(tarbox: Tarbox) -> None:
    kind, words = asked(tarbox, "")
    assert kind == "words" and "run" in words


def test_options_stand_before_the_program(tarbox: Tarbox) -> None:
    assert asked(tarbox, "run", "--f") == ("words", ["--fuel"])
    assert asked(tarbox, "run", "--read-only", "") == ("files", [])
    assert asked(tarbox, "run", "prog.wasm", "--f") == ("words", [])
    assert asked(tarbox, "run", "prog.wasm", "--tenant", "") == ("words", [])


def test_directories_of_the_tenant(tarbox: Tarbox) -> None:
    tarbox("mkdir", "-p", "/projects/a", "/data")
    assert asked(tarbox, "run", "--dir", "/pro") == ("words", ["/projects/"])
    assert asked(tarbox, "run", "--dir", "/work=/projects/") == ("words", ["/work=/projects/a/"])
    assert asked(tarbox, "run", "--dir=/work=/d") == ("words", ["--dir=/work=/data/"])
