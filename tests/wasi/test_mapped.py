"""Machine code that is kept in a file: used when it is ours and of the program as it is now, made anew otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from wasmtime import Engine, Module

from tarbox_wasi import mapped
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


@pytest.mark.parametrize("writable", ["file", "folder"])
def test_what_others_may_write_is_not_run(compiler: Compiler, program: Path, tmp_path: Path, writable: str) -> None:
    exports(program)
    (path,) = kept(tmp_path)
    (path if writable == "file" else path.parent).chmod(0o777)
    assert exports(program) == ["one"]
    assert compiler.count == 2


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
