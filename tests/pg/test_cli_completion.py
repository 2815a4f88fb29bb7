"""Completion as the shells ask for it, with the real shells where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pg.cli import Tarbox, fresh


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        command("mkdir", "-p", "/data/two words", "/data/.hidden", "/docs")
        command("write", "/data/a$b.txt", "x")
        command("write", "/data/plain", "x")
        command("ln", "-s", "/docs", "/data/link")
        bin_folder = tmp_path / "bin"
        bin_folder.mkdir()
        script = bin_folder / "tarbox"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tarbox_cli "$@"\n')
        script.chmod(0o755)
        command.env["PATH"] = f"{bin_folder}:{os.environ['PATH']}"
        yield command


def asked(tarbox: Tarbox, *words: str, shell: str = "fish") -> tuple[str, list[str]]:
    lines = tarbox("__complete", shell, "--", *words).decode().splitlines()
    return lines[0], [line.split("\t")[0] for line in lines[1:]]


def test_commands_and_options(tarbox: Tarbox) -> None:
    kind, words = asked(tarbox, "")
    assert kind == "words" and {"init", "tenant", "ls", "put", "completion"} <= set(words)
    assert asked(tarbox, "mk") == ("words", ["mkdir"])
    assert asked(tarbox, "tenant", "") == ("words", ["create", "list", "info", "delete"])
    assert asked(tarbox, "tenant", "--json", "d") == ("words", ["delete"])
    assert asked(tarbox, "--ten") == ("words", ["--tenant"])
    assert set(asked(tarbox, "ls", "--")[1]) >= {"--tenant", "--json", "--all", "--recursive", "--help"}
    assert "-l" in asked(tarbox, "ls", "-")[1]
    assert asked(tarbox, "completion", "") == ("words", ["bash", "zsh", "fish"])
    assert asked(tarbox, "mount", "--transport", "") == ("words", ["kernel", "libfuse"])
    assert asked(tarbox, "mount", "--transport=l") == ("words", ["--transport=libfuse"])
    assert asked(tarbox, "nonsense", "") == ("words", [])


def test_tenants_and_paths(tarbox: Tarbox) -> None:
    assert tarbox.tenant in asked(tarbox, "--tenant", "")[1]
    assert asked(tarbox, "ls", "--tenant", tarbox.tenant) == ("words", [tarbox.tenant])
    assert f"--tenant={tarbox.tenant}" in asked(tarbox, "ls", "--tenant=cl")[1]
    assert tarbox.tenant in asked(tarbox, "tenant", "info", "")[1]
    assert asked(tarbox, "ls", "") == ("words", ["data/", "docs/"])
    assert asked(tarbox, "ls", "/d") == ("words", ["/data/", "/docs/"])
    assert asked(tarbox, "cat", "/data/") == ("words", ["/data/a$b.txt", "/data/link/", "/data/plain", "/data/two words/"])
    assert asked(tarbox, "cat", "/data/.") == ("words", ["/data/.hidden/"])
    assert asked(tarbox, "cp", "/data/plain", "/do") == ("words", ["/docs/"])
    assert asked(tarbox, "ls", "/none/") == ("words", [])
    assert asked(tarbox, "put", "") == ("files", [])
    assert asked(tarbox, "put", "x", "/do") == ("words", ["/docs/"])
    assert asked(tarbox, "get", "/data/pl") == ("words", ["/data/plain"])
    assert asked(tarbox, "get", "/data/plain", "") == ("files", [])
    assert asked(tarbox, "ls", "--config", "") == ("files", [])
    assert asked(tarbox, "mount", "") == ("directories", [])


def test_layers_and_branches(tarbox: Tarbox) -> None:
    """Names are offered at once, ids where one is begun, or where there is no name."""
    tarbox("write", "/early", "x")
    named = tarbox.json("layer", "create", "my layer", "-m", "all well\nindeed")["id"][:8]
    unnamed = tarbox.json("layer", "create")["id"][:8]
    tarbox("rm", "/early")
    tarbox("layer", "branch", "side")
    assert set(asked(tarbox, "layer", "")[1]) >= {"create", "list", "current", "switch", "delete", "squash", "branch"}
    assert asked(tarbox, "layer", "sw") == ("words", ["switch"])
    offered = asked(tarbox, "layer", "switch", "")[1]
    assert {"my layer", unnamed} <= set(offered) and named not in offered
    assert len(offered) == 3 and named in asked(tarbox, "layer", "switch", named[:1])[1]
    for words in ("cat --layer", "layer delete", "layer switch --layer", "layer branch new", "mount --layer", "--layer"):
        assert asked(tarbox, *words.split(" "), "my") == ("words", ["my layer"])
    assert asked(tarbox, "ls", "--layer=my") == ("words", ["--layer=my layer"])
    assert asked(tarbox, "cat", "--layer", "my layer", "/ea") == ("words", ["/early"])
    assert asked(tarbox, "cat", "/ea") == ("words", [])
    assert asked(tarbox, "layer", "branch", "") == ("words", ["list", "delete"])
    assert asked(tarbox, "layer", "branch", "delete", "") == ("words", ["main", "side"])
    assert asked(tarbox, "mount", "--branch", "s") == ("words", ["side"])
    assert asked(tarbox, "--branch", "s") == ("words", ["side"])
    assert asked(tarbox, "ls", "--branch=") == ("words", ["--branch=main", "--branch=side"])
    assert asked(tarbox, "layer", "squash", "my") == ("words", ["my layer"])
    assert asked(tarbox, "layer", "squash", "x..my") == ("words", ["x..my layer"])
    assert asked(tarbox, "audit", "--operation", "sw") == ("words", ["switch"])
    assert asked(tarbox, "audit", "--layer", "my") == ("words", ["my layer"])
    assert asked(tarbox, "diff", "my") == ("words", ["my layer"]) and asked(tarbox, "diff", "my layer", "head", "/da") == ("words", ["/data/"])


def test_silence_where_there_is_no_database(tarbox: Tarbox) -> None:
    nowhere = ("--database-url", "postgresql://x:y@127.0.0.1:1/z")
    assert asked(tarbox, *nowhere, "ls", "/") == ("words", [])
    assert asked(tarbox, "ls", *nowhere, "--tenant", "") == ("words", [])


def bash(tarbox: Tarbox, *words: str) -> list[str]:
    """What bash would put in place of the last word."""
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    program = f"""
        source <(tarbox completion bash)
        COMP_WORDS=(tarbox {quoted}); COMP_CWORD={len(words)}
        compopt() {{ :; }}
        _tarbox
        (( ${{#COMPREPLY[@]}} )) && printf '%s\\n' "${{COMPREPLY[@]}}"
        exit 0
    """
    done = subprocess.run(["bash", "--norc", "-c", program], env=tarbox.env, cwd=tarbox.folder, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    return done.stdout.decode().splitlines()


def test_bash(tarbox: Tarbox) -> None:
    assert bash(tarbox, "tre") == ["tree"]
    assert bash(tarbox, "ls", "/data/t") == ["/data/two\\ words/"]
    assert bash(tarbox, "ls", "/data/two\\ w") == ["/data/two\\ words/"]
    assert bash(tarbox, "ls", '"/data/two w') == ["/data/two\\ words/"]
    assert bash(tarbox, "cat", "/data/a") == ["/data/a\\$b.txt"]
    assert bash(tarbox, "ls", "--tenant", "=", tarbox.tenant[:4]) and tarbox.tenant in bash(tarbox, "ls", "--tenant", "=", tarbox.tenant[:4])
    assert tarbox.tenant in bash(tarbox, "ls", "--tenant", "=")
    assert bash(tarbox, "wasi", "run", "--dir", "/work", "=", "/data/tw") == ["/data/two\\ words/"]
    assert bash(tarbox, "wasi", "run", "--dir", "=", "/work", "=", "/da") == ["/data/"]
    assert "data/" in bash(tarbox, "wasi", "run", "--dir", "/work", "=")
    (tarbox.folder / "hostfile").touch()
    assert bash(tarbox, "put", "hostf") == ["hostfile"]
    assert bash(tarbox, "mount", "b") == ["bin"]
    assert bash(tarbox, "ls", "/none/x") == []


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish(tarbox: Tarbox) -> None:
    def fish(line: str) -> list[str]:
        program = f"tarbox completion fish | source; complete -C '{line}'"
        done = subprocess.run(["fish", "--no-config", "-c", program], env=tarbox.env, cwd=tarbox.folder, capture_output=True, check=True, timeout=60)
        return [found.split("\t")[0] for found in done.stdout.decode().splitlines()]

    assert fish("tarbox tre") == ["tree"]
    assert fish("tarbox ls /data/t") == ["/data/two words/"]
    assert fish("tarbox tenant ") == ["create", "delete", "info", "list"]
    (tarbox.folder / "hostfile").touch()
    assert fish("tarbox put hostf") == ["hostfile"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh(tarbox: Tarbox) -> None:
    """In an interactive zsh on a terminal, as it cannot be asked otherwise."""
    import pty
    import select
    import time

    (tarbox.folder / ".zshrc").write_text("PS1='%% '; autoload -Uz compinit; compinit -u; source <(tarbox completion zsh); unsetopt beep; print READY\n")
    leader, follower = pty.openpty()
    env = tarbox.env | {"ZDOTDIR": str(tarbox.folder), "TERM": "dumb"}
    process = subprocess.Popen(["zsh", "-i"], stdin=follower, stdout=follower, stderr=follower, env=env, cwd=tarbox.folder, start_new_session=True)
    os.close(follower)

    def until(what: bytes) -> bytes:
        shown = b""
        deadline = time.monotonic() + 60
        while what not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([leader], [], [], 1)[0]:
                shown += os.read(leader, 65536)
        return shown

    try:
        until(b"READY")
        os.write(leader, b"tarbox tre\t-L 1 /da\t ; print DO''NE\n")
        shown = until(b"DONE")
        assert b"1 directory, 3 files" in shown and b"plain" in shown
        os.write(leader, b"tarbox ls -d /data/two\t; print DO''NE\n")
        assert b"/data/two words" in until(b"DONE").replace(b"\\ ", b" ")
    finally:
        os.close(leader)
        process.kill()
        process.wait()
