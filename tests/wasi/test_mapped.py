"""Machine code that is kept in a file: used when it is ours and of the program as it is now, made anew otherwise."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from wasmtime import Engine, Module

from tarbox_wasi import mapped
from tarbox_wasi.caching import cache_folder, sheltered
from tarbox_wasi.engine import ProgramError, Source, load, make_engine
from tests.wasi.helpers import compiled


class Compiler:
    """engine.load, counted."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, source: Source, engine: Engine, name: str) -> Module:
        self.count += 1
        return load(source, engine, name)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """One that others may enter, as pytest's own may not be. wasmtime may still be writing to its cache there when the test ends."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    made = Compiler()
    monkeypatch.setattr(mapped, "load", made)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.wasm"
    path.write_bytes(compiled('(module (func (export "one")))'))
    return path


def kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache/tarbox/wasm").iterdir())


def exports(program: Path, engine: Engine | None = None) -> list[str | None]:
    return [export.name for export in mapped.load_mapped(program, engine or make_engine(), "program").exports]


def test_a_program_is_compiled_once(compiler: Compiler, program: Path, tmp_path: Path) -> None:
    assert exports(program) == exports(program) == ["one"]
    assert compiler.count == 1
    assert [path.suffix for path in kept(tmp_path)] == [".cwasm"]


def test_a_changed_program_takes_the_place_of_the_old_one(compiler: Compiler, program: Path, tmp_path: Path) -> None:
    exports(program)
    program.write_bytes(compiled('(module (func (export "another")))'))
    assert exports(program) == ["another"]
    assert len(kept(tmp_path)) == 1


@pytest.mark.parametrize("writable", [0, 1, 2, 3], ids=["file", "folder", "above", "top"])
def test_what_others_may_write_is_not_run(compiler: Compiler, program: Path, tmp_path: Path, writable: int) -> None:
    """Nor what lies below it: who may write to a folder may put another in the place of the one that was looked at."""
    exports(program)
    (path,) = kept(tmp_path)
    there = [path, *path.parents]
    for each in there[1:4]:
        each.chmod(0o755)
    assert exports(program) == ["one"] and compiler.count == 1
    there[writable].chmod(0o777)
    assert exports(program) == ["one"]
    assert compiler.count == 2


def test_its_folders_are_the_users_alone_whatever_the_umask(compiler: Compiler, program: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        exports(program)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("cache", "cache/tarbox", "cache/tarbox/wasm")] == [0o700] * 3


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_the_home_of_another_user_is_not_trusted(compiler: Compiler, program: Path, tmp_path: Path) -> None:
    """As with sudo that keeps HOME."""
    exports(program)
    assert cache_folder() == tmp_path / "cache"
    os.chown(tmp_path / "cache", 12345, 12345)
    assert cache_folder() is None
    assert exports(program) == ["one"]
    assert compiler.count == 2


def test_a_private_folder_shelters_what_is_below_it(tmp_path: Path) -> None:
    inner = tmp_path / "mine/shared"
    inner.mkdir(parents=True)
    inner.chmod(0o777)
    assert not sheltered(inner)
    inner.parent.chmod(0o700)
    assert sheltered(inner) and sheltered(inner / "none")
    inner.parent.chmod(0o755)
    inner.chmod(0o1777)
    assert sheltered(inner)
    (tmp_path / "link").symlink_to(inner)
    assert not sheltered(tmp_path / "link")


def test_another_engine_has_it_compiled_anew(compiler: Compiler, program: Path) -> None:
    exports(program)
    assert exports(program, make_engine(fuel=True)) == ["one"]
    assert compiler.count == 2


def test_a_file_that_is_no_machine_code_is_replaced(compiler: Compiler, program: Path, tmp_path: Path) -> None:
    exports(program)
    (path,) = kept(tmp_path)
    path.write_bytes(b"junk")
    assert exports(program) == exports(program) == ["one"]
    assert compiler.count == 2


def test_without_a_place_to_keep_it_it_is_compiled_each_time(compiler: Compiler, program: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    assert exports(program) == exports(program) == ["one"]
    assert compiler.count == 2


def test_what_is_wrong_with_a_program_is_told(compiler: Compiler, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="no such file"):
        exports(tmp_path / "none.wasm")
