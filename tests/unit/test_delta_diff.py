"""Hunks cover exactly what differs, and no more lines of it than git's."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarbox_core.delta import align, anchors, diff, lcs, text
from tarbox_core.delta.hunk import Counts, Hunk, spans
from tests.unit import texts


def assert_exact(old: bytes, new: bytes, hunks: list[Hunk]) -> None:
    """What lies between hunks is equal, and each begins and ends where lines do, a line or more behind the one before."""
    i = j = 0
    for number, hunk in enumerate(hunks):
        assert hunk.old_start < hunk.old_end or hunk.new_start < hunk.new_end
        assert number == 0 or (hunk.old_start > i and hunk.new_start > j)
        assert old[i : hunk.old_start] == new[j : hunk.new_start]
        for side, start, end in ((old, hunk.old_start, hunk.old_end), (new, hunk.new_start, hunk.new_end)):
            assert start <= end
            assert text.begins_line(side, start)
            assert end == len(side) or text.begins_line(side, end)
        i, j = hunk.old_end, hunk.new_end
    assert old[i:] == new[j:]


def common_lines(old: bytes, new: bytes) -> int:
    """The length of the longest common subsequence of lines, by the book."""
    a, b = text.split_lines(old), text.split_lines(new)
    row = [0] * (len(b) + 1)
    for line in a:
        above, row = row, [0]
        for y, other in enumerate(b):
            row.append(above[y] + 1 if line == other else max(row[y], above[y + 1]))
    return row[-1]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short texts take the ways of long ones: windows, anchors, blocks."""
    for name, value in {"_SMALL": 0, "_WINDOW": 8, "_TRUSTED": 32, "_NEAR": 4}.items():
        monkeypatch.setattr(diff, name, value)
    for name, value in {"_SMALL": 16, "_EXACT": 60, "_SIDE": 8, "_SURE": 6}.items():
        monkeypatch.setattr(align, name, value)
    monkeypatch.setattr(anchors, "_WIDEST", 4)
    monkeypatch.setattr(lcs, "_MEMORY", 50)


@given(texts.pairs)
@settings(max_examples=150, deadline=None)
def test_hunks_cover_what_differs_with_the_fewest_lines(pair: tuple[bytes, bytes]) -> None:
    old, new = pair
    hunks = diff.diff(old, new)
    assert_exact(old, new, hunks)
    common = common_lines(old, new)
    counts = diff.count(old, new, hunks)
    assert (counts.insertions, counts.deletions) == (text.count_lines(new) - common, text.count_lines(old) - common)


@pytest.mark.usefixtures("small")
def test_hunks_cover_what_differs_on_every_way() -> None:
    @given(texts.pairs, st.sampled_from([diff.BUDGET, 200, 0]), st.sampled_from([0, 1 << 20]))
    @settings(max_examples=200, deadline=None)
    def run(pair: tuple[bytes, bytes], budget: int, patience: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(diff, "_PATIENCE", patience)
            hunks = diff.diff(*pair, budget)
        assert_exact(*pair, hunks)
        assert bool(hunks) == (pair[0] != pair[1])

    run()


@given(st.lists(st.integers(0, 6), max_size=40), st.lists(st.integers(0, 6), max_size=40), st.sampled_from([1, 100, 1 << 27]))
@settings(max_examples=150, deadline=None)
def test_both_ways_find_a_longest_common_subsequence(a: list[int], b: list[int], memory: int) -> None:
    longest = common_lines(b"".join(b"%d\n" % x for x in a), b"".join(b"%d\n" % y for y in b))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lcs, "_MEMORY", memory)
        for pairs in (lcs.by_bits(a, b), lcs.by_pairs(a, b)):
            assert len(pairs) == longest
            assert all(a[x] == b[y] for x, y in pairs)
            for column in zip(*pairs, strict=True):
                assert list(column) == sorted(set(column))


def test_an_unterminated_line_equals_no_terminated_one() -> None:
    assert diff.diff(b"a\nb", b"a\nb\n") == [Hunk(2, 3, 2, 4)]
    assert diff.diff(b"b\na", b"a\nb") == [Hunk(0, 3, 0, 3)]
    assert diff.diff(b"a", b"a") == diff.diff(b"", b"") == []


def test_only_newlines_end_lines() -> None:
    assert diff.diff(b"a\r\nb\rc\n", b"a\nb\rc\n") == [Hunk(0, 3, 0, 2)]
    assert text.split_lines(b"a\r\nb\rc\x0b\x0c\x85\n\nd") == [b"a\r", b"b\rc\x0b\x0c\x85", b"", b"\nd"]
    assert [text.count_lines(data) for data in (b"", b"\n", b"a", b"a\n", b"a\nb", b"\r")] == [0, 1, 1, 1, 2, 1]


def test_text_is_what_can_be_read_by_lines() -> None:
    assert text.is_text(b"") and text.is_text(b"\xff\xfe\n") and text.is_text(b"a" * 8000 + b"\0")
    assert not text.is_text(b"a" * 7999 + b"\0")
    line = b"a" * text.LINE_MAX
    short = b"b\n" * 100
    assert text.suits_deltas(b"") and text.suits_deltas(short + line + b"\n" + short) and text.suits_deltas(short + line)
    assert not text.suits_deltas(short + line + b"a\n" + short)
    assert not text.suits_deltas(short + line + b"a")
    assert not text.suits_deltas(b"\0" + short)
    assert text.suits_deltas((b"a" * 4095 + b"\n") * 3)
    assert not text.suits_deltas((b"a" * 4096 + b"\n") * 3)
    assert not text.suits_deltas(b"a\n" * (32 << 20) + b"a\n")


def test_lines_of_hunks() -> None:
    old, new = b"a\nb\nc\nd\ne\nf\n", b"a\nB\nB\nd\ne\ng"
    hunks = diff.diff(old, new)
    assert [tuple(span) for span in spans(old, new, hunks)] == [(1, 2, 1, 2), (5, 1, 5, 1)]
    assert diff.count(old, new) == Counts(added=0, deleted=0, modified=3)
    assert diff.count(b"a\nb\n", b"x\ny\nz\n") == Counts(added=1, deleted=0, modified=2)
    counts = diff.count(b"x\na\nb\n", b"x\nc")
    assert (counts, counts.insertions, counts.deletions) == (Counts(0, 1, 1), 1, 2)


def test_an_inserted_function_begins_with_its_head() -> None:
    before, after = b"def a():\n    x\n    y\n\n", b"def c():\n    z\n    y\n\n"
    inserted = b"def b():\n    w\n    y\n\n"
    assert diff.diff(before + after, before + inserted + after) == [Hunk(len(before), len(before), len(before), len(before + inserted))]
    assert diff.diff(before + inserted + after, before + after) == [Hunk(len(before), len(before + inserted), len(before), len(before))]


@given(texts.pairs)
def test_a_slid_hunk_still_means_the_same(pair: tuple[bytes, bytes]) -> None:
    """Texts with indentation, each line doubled, so that there is much to slide."""
    old, new = (b"".join(line + b"\n " + line + b"\n" for line in side.split(b"\n")) for side in pair)
    assert_exact(old, new, diff.diff(old, new))


def test_the_budget_ends_in_a_coarse_hunk_and_is_kept() -> None:
    """Two lines in random order: nothing is unique, everything has partners, and only the budget ends the search."""
    numbers = random.Random(3)
    old, new = (b"".join(b"%d\n" % numbers.randrange(2) for _ in range(30_000)) for _ in range(2))
    coarse = diff.diff(old, new, budget=0)
    fine = diff.diff(old, new, budget=1_000_000)
    assert_exact(old, new, coarse)
    assert_exact(old, new, fine)
    assert len(coarse) == 1
    assert diff.count(old, new, fine).insertions < 7_500  # random sequences of two letters share 81%
    assert fine == diff.diff(old, new, budget=1_000_000)


EDITS = {
    "few": lambda lines: texts.change_lines(lines, 0.001),
    "some": lambda lines: texts.change_lines(lines, 0.02),
    "many": lambda lines: texts.change_lines(lines, 0.4),
    "moved": lambda lines: texts.move_blocks(lines, 8),
    "copied": lambda lines: texts.copy_blocks(lines, 12),
    "cut": lambda lines: lines[: len(lines) // 3] + lines[len(lines) // 2 :],
}
CORPUS = {"rows": texts.csv(15_000), "program": texts.program(3_000), "long program": texts.program(60_000), "records": texts.records(3_000)}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("kind", CORPUS)
def test_no_more_lines_than_git_finds(kind: str, edit: str, tmp_path: Path) -> None:
    lines = CORPUS[kind]
    old, new = b"".join(lines), b"".join(EDITS[edit](lines))
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    run = subprocess.run(
        ["git", "diff", "--no-index", "--numstat", "old", "new"],
        cwd=tmp_path, env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}, capture_output=True, text=True, timeout=60,
    )
    inserted, deleted = map(int, run.stdout.split()[:2])
    hunks = diff.diff(old, new)
    assert_exact(old, new, hunks)
    counts = diff.count(old, new, hunks)
    assert counts.insertions <= inserted * 1.01
    assert counts.deletions <= deleted * 1.01
