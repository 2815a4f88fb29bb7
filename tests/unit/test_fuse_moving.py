"""How the head moves under a mount, over a tree in memory: what comes before, what comes after, and what refuses it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tarbox_core.errors import ConnectionLost, FsError, LayerError
from tarbox_core.filesystem import Filesystem
from tarbox_core.types import Caller
from tarbox_fuse import moving
from tarbox_fuse.kernel import Kernel, tree_of
from tarbox_fuse.verbs import Verbs
from tests.fuse.memory_fs import MemoryDriver, MemoryFilesystem


class RecordingKernel(Kernel):
    """Writes down what the kernel is told, and whether requests were kept out meanwhile."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.verbs: Verbs | None = None
        self.is_new = True  # it can forget all names at once
        self.told: list[tuple[int, bytes, bool]] = []

    def _notify(self, code: int, body: bytes) -> bool:
        assert self.verbs is not None
        came_in = self.verbs.gate.try_enter()
        if came_in:
            self.verbs.gate.leave()
        self.told.append((code, body, came_in))
        return code != 8 or self.is_new

    def codes(self) -> list[tuple[int, bool]]:
        """(code, whether requests were let in), and forget them."""
        found = [(code, came_in) for code, _, came_in in self.told]
        self.told.clear()
        return found


class Stage:
    def __init__(self) -> None:
        self.fs = MemoryFilesystem()
        self.driver = MemoryDriver()
        self.kernel = RecordingKernel()
        self.refreshed = 0
        cast(Any, self.fs).refresh = self._refresh
        self.verbs = Verbs(cast(Filesystem, self.fs), self.driver, lambda: 1 << 62, kernel=self.kernel)
        self.kernel.verbs = self.verbs

    def _refresh(self) -> Iterator[Any]:
        yield from ()
        self.refreshed += 1

    def write(self, name: bytes) -> int:
        fh, attr, _ = self.verbs.create(Caller(), 1, name, 0o644, exclusive=True, truncate=False)
        self.fs.session.names.saw(attr.ino, 1, name)
        self.verbs.write(Caller(), fh, 0, b"x", False, False)
        return attr.ino

    def move(self, *, switch: bool = True, error: Exception | None = None) -> list[int]:
        """Move the head; how much was dirty when it did, or nothing where it did not come to that."""
        dirty: list[int] = []

        def op() -> Iterator[Any]:
            yield from ()
            assert not self.verbs.gate.try_enter()
            dirty.append(self.fs.dirty_bytes())
            if error is not None:
                raise error
            self.fs.session.at.generation += switch

        self.verbs.mover.move(op)  # type: ignore[arg-type]
        assert self.verbs.gate.try_enter()
        self.verbs.gate.leave()
        return dirty


def test_what_is_dirty_is_stored_and_the_kernel_knows_before_requests_go_on() -> None:
    stage = Stage()
    ino = stage.write(b"f")
    assert stage.move() == [0]
    assert stage.driver.durable == 1
    written_back, *after = stage.kernel.told
    assert written_back[1][:8] == (tree_of(0) | ino).to_bytes(8, "little") and written_back[2]
    assert [(code, came_in) for code, _, came_in in after] == [(8, False), (2, False)]  # names, the root's attributes
    stage.kernel.told.clear()
    for _ in range(4):
        stage.verbs.tick()
    assert stage.kernel.codes() == [(8, True), (2, True)] * 2  # twice more


def test_a_checkpoint_tells_the_kernel_nothing() -> None:
    stage = Stage()
    assert stage.move(switch=False) == [0]
    assert stage.kernel.told == []


def test_a_file_that_cannot_be_stored_refuses_the_move_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.write(b"full")

    def flush(self: object, caller: Caller) -> Iterator[Any]:
        yield from ()
        raise FsError(errno.ENOSPC)

    monkeypatch.setattr("tests.fuse.memory_fs.MemoryFile.flush", flush)
    with pytest.raises(LayerError, match="/full cannot be stored") as caught:
        stage.move()
    assert caught.value.errno == errno.ENOSPC and stage.fs.session.at.generation == 0
    monkeypatch.undo()
    assert stage.move() == [0]


def test_work_that_does_not_end_refuses_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "_PATIENCE", 0.05)
    stage = Stage()
    stage.verbs.gate.enter()
    with pytest.raises(LayerError) as caught:
        stage.move()
    assert caught.value.errno == errno.EBUSY and stage.driver.durable == 0
    stage.verbs.gate.leave()
    assert stage.move() == [0]


def test_after_a_failure_it_is_seen_where_the_head_stands() -> None:
    stage = Stage()
    with pytest.raises(LayerError):
        stage.move(error=LayerError(errno.EEXIST, "taken"))
    assert stage.refreshed == 1


def test_where_the_answer_is_lost_an_older_kernel_forgets_each_name_as_well() -> None:
    stage = Stage()
    stage.kernel.is_new = False
    stage.write(b"f")
    session = stage.fs.session

    def refresh() -> Iterator[Any]:
        yield from ()
        session.at.generation += 1

    cast(Any, stage.fs).refresh = refresh
    with pytest.raises(ConnectionLost):
        stage.move(error=ConnectionLost("while it was committed", committing=True))
    assert (3, True) in stage.kernel.codes()


def test_a_move_that_an_operation_met_is_told_at_the_next_tick() -> None:
    stage = Stage()
    stage.fs.session.at.generation += 1
    stage.verbs.tick()
    assert stage.kernel.codes() == [(8, False), (2, False)]
