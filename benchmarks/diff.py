"""Diffs of large texts beside `git diff --no-index` and difflib, in one run: times, how many times faster, and the lines counted.

    python benchmarks/diff.py [--json] [--no-difflib]

Of us and of git the best of several rounds, taken in turns; difflib once. git's time holds the start of a process, which
is printed by itself. Then what texts take as deltas, and how fast one is rebuilt from 64 of them.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from tarbox_core.delta.codec import apply, encode, pack_whole, rebuild, unpack_whole
from tarbox_core.delta.diff import count, diff

ROUNDS: Final = 5

Lines = list[bytes]


class Case(NamedTuple):
    name: str
    old: Lines
    new: Lines
    wanted: float | None  # times git's speed


def rows(count: int) -> Lines:
    """Lines of a CSV, 40 bytes each, all different."""
    numbers = random.Random(1)
    return [b"%d,%s,%d,%d\n" % (row, numbers.randbytes(8).hex().encode(), numbers.randrange(10**9), numbers.randrange(100)) for row in range(count)]


def modified(lines: Lines, chosen: list[int]) -> Lines:
    new = list(lines)
    for number in chosen:
        new[number] = new[number].replace(b",", b";", 1)
    return new


def edited(lines: Lines, share: float) -> Lines:
    """Of that share of the lines, half modified, a quarter removed, a quarter followed by a new one."""
    numbers = random.Random(2)
    new = []
    for line in lines:
        chance = numbers.random() / share
        if chance >= 1:
            new.append(line)
        elif chance < 0.5:
            new.append(line.replace(b",", b";", 1))
        elif chance >= 0.75:
            new += [line, b"new,%d\n" % numbers.randrange(10**9)]
    return new


def cases() -> list[Case]:
    million = rows(1_000_000)
    some, few = million[:100_000], million[:20_000]
    numbers = random.Random(3)
    return [
        Case("1M lines, ten edits", million, modified(million, numbers.sample(range(len(million)), 10)), 50),
        Case("1M lines, one inserted at the top", million, [b"top\n", *million], None),
        Case("1M lines, 1% changed", million, edited(million, 0.01), None),
        Case("100k lines, 1% modified", some, modified(some, numbers.sample(range(len(some)), 1000)), 1),
        Case("100k lines, 1% changed", some, edited(some, 0.01), 1),
        Case("20k lines, 30% changed", few, edited(few, 0.3), 0.2),
        Case("20k lines, all different", few, [b"x" + line for line in few], None),
    ]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def git(folder: Path, *options: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(["git", "diff", "--no-index", *options, "old", "new"], cwd=folder, env=environment, capture_output=True, text=True).stdout


def by_difflib(old: Lines, new: Lines) -> None:
    for _ in difflib.unified_diff([line.decode() for line in old], [line.decode() for line in new]):
        pass


def measure(case: Case, folder: Path, with_difflib: bool) -> dict[str, Any]:
    old, new = b"".join(case.old), b"".join(case.new)
    (folder / "old").write_bytes(old)
    (folder / "new").write_bytes(new)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(timed(lambda: diff(old, new))[0])
        theirs.append(timed(lambda: git(folder))[0])
    counts = count(old, new)
    inserted, deleted = map(int, git(folder, "--numstat").split()[:2])
    delta = encode(old, new)
    assert apply(old, delta) == new
    return {
        "case": case.name, "ms": min(ours) * 1e3, "git_ms": min(theirs) * 1e3, "times_git": min(theirs) / min(ours), "wanted": case.wanted,
        "difflib_ms": timed(lambda: by_difflib(case.old, case.new))[0] * 1e3 if with_difflib else None,
        "added": counts.insertions, "deleted": counts.deletions, "git_added": inserted, "git_deleted": deleted, "delta_bytes": len(delta),
    }  # fmt: skip


def chain() -> dict[str, Any]:
    """1 MB with a line changed in each of 64 layers: bytes a layer, and the time to the text of the last."""
    lines = rows(25_000)
    first = text = b"".join(lines)
    whole, deltas = pack_whole(first), []
    numbers = random.Random(4)
    for _ in range(64):
        lines = modified(lines, [numbers.randrange(len(lines))])
        before, text = text, b"".join(lines)
        deltas.append(encode(before, text))
    spent, rebuilt = min((timed(lambda: rebuild(unpack_whole(whole), deltas)) for _ in range(ROUNDS)), key=lambda result: result[0])
    assert rebuilt == text
    return {"bytes": len(first), "keyframe_bytes": len(whole), "largest_delta_bytes": max(map(len, deltas)), "rebuild_of_64_ms": spent * 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description="Diffs beside git's and difflib's.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-difflib", action="store_true", help="leave difflib out: it takes half a minute")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "old").write_bytes(b"a\n")
        (folder / "new").write_bytes(b"b\n")
        start = min(timed(lambda: git(folder))[0] for _ in range(ROUNDS)) * 1e3
        results = [measure(case, folder, not options.no_difflib) for case in cases()]
    stored = chain()
    if options.json:
        print(json.dumps({"git_start_ms": start, "cases": results, "chain": stored}, indent=2))
        return
    print(f"{'':36} {'ms':>9} {'git ms':>9} {'x git':>7} {'wanted':>7} {'difflib ms':>11}   {'added, deleted':>18} {'by git':>18} {'delta':>9}")
    for row in results:
        wanted = "" if row["wanted"] is None else f"{row['wanted']:g}"
        slow = "" if row["difflib_ms"] is None else f"{row['difflib_ms']:.1f}"
        ours, theirs = f"{row['added']}, {row['deleted']}", f"{row['git_added']}, {row['git_deleted']}"
        numbers = f"{row['ms']:9.1f} {row['git_ms']:9.1f} {row['times_git']:7.2f} {wanted:>7} {slow:>11}"
        print(f"{row['case']:36} {numbers}   {ours:>18} {theirs:>18} {row['delta_bytes']:>9}")
    print(f"git begins and ends in {start:.1f} ms")
    print(
        f"a text of {stored['bytes']} bytes, a line changed 64 times: keyframe {stored['keyframe_bytes']} bytes, "
        f"a delta at most {stored['largest_delta_bytes']}, the last text rebuilt in {stored['rebuild_of_64_ms']:.1f} ms"
    )


if __name__ == "__main__":
    main()
