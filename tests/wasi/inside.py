"""Runs inside CPython for WASI: pytest on the unit tests that need neither threads nor processes, or our own BLAKE3.

    inside.py tests          the last line is JSON: how many tests passed, and what failed
    inside.py hashes SIZE... one hash a line, of that many bytes of `pattern`

Preopened: the repository as /repo and the host's site-packages as /site, both read-only, hypothesis as /hypothesis, and
an empty "/" for temporary files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

# Patterns of test ids, and why they stay outside.
EXCLUDED = {
    "test_architecture.py::*": "starts processes: the rules are about the source text, not about where it runs",
    "test_fuse_*": "the mount's: threads, signals and the kernel's protocol",
    "test_wasi_*": "the side of the host, which wasmtime runs on",
    "test_hashing.py::*": "compares with the wheel, which is machine code; `hashes` is compared with it outside",
    "test_cache.py::test_threads_never_see_a_wrong_value*": "threads",
    "test_cli_arguments.py::test_modes_are_those_of_chmod*": "starts chmod",
    "test_cli_arguments.py::test_owners_by_name_and_number": "WASI has no users",
    "test_cli_output.py::test_bash_reads_a_quoted_name_back": "starts bash",
    "test_cli_output.py::test_errors_are_one_line_whatever_is_in_them": "has errors by Linux's numbers",
    "test_cli_output.py::test_a_closed_pipe_is_quiet_and_a_full_disk_is_told": "starts the command",
    "test_cli_output.py::test_starting_imports_no_driver": "starts the command",
    "test_delta_diff.py::test_no_more_lines_than_git_finds*": "starts git",
    "test_delta_unified.py::test_patch_and_git_make_the_new_text_of_the_old*": "starts patch and git",
    "test_delta_unified.py::test_it_reads_as_what_git_prints*": "starts git",
}


EXAMPLES = 10  # of each property: it is slower here, and they are sought outside


def pattern(size: int) -> bytes:
    """Bytes that repeat only after 251."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def excluded(test: str) -> bool:
    return any(fnmatch(test, words) for words in EXCLUDED)


def run_tests() -> int:
    sys.path[:0] = ["/hypothesis", "/repo", "/repo/frontends/cli"]
    sys.path.append("/site")
    sys.dont_write_bytecode = True
    import os

    os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"  # those of the host's packages do not all load here
    import pytest
    from hypothesis import settings

    settings.register_profile("inside", max_examples=EXAMPLES, database=None, deadline=None)
    settings.load_profile("inside")

    class Inside:
        """What of pytest works otherwise here, and the count."""

        def __init__(self) -> None:
            self.passed = 0
            self.failed: list[str] = []

        @pytest.fixture
        def capfdbinary(self, capsysbinary: Any) -> Iterator[Any]:
            """Descriptors cannot be doubled here."""
            yield capsysbinary

        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            items[:] = [item for item in items if not excluded(item.nodeid.removeprefix("tests/unit/"))]
            for item in items:
                made = getattr(item.obj, "_hypothesis_internal_use_settings", None)
                if made is not None and made.max_examples > EXAMPLES:
                    item.obj._hypothesis_internal_use_settings = settings(made, max_examples=EXAMPLES)

        def pytest_runtest_logreport(self, report: Any) -> None:
            self.passed += report.passed and report.when == "call"
            if report.failed:
                self.failed.append(f"{report.nodeid} ({report.when})")

        def pytest_collectreport(self, report: Any) -> None:
            if report.failed:
                self.failed.append(report.nodeid)

    files = [f"/repo/tests/unit/{name}" for name in sorted(os.listdir("/repo/tests/unit")) if name.startswith("test_") and not excluded(f"{name}::")]
    plugin = Inside()
    options = ["-c", "/pytest.ini", "--rootdir=/repo", "--confcutdir=/repo", "--noconftest", "--import-mode=importlib", "--assert=plain"]
    options += ["--basetemp=/tmp/tests", "-s", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    status = pytest.main([*options, *files], [plugin])
    print("\n" + json.dumps({"passed": plugin.passed, "failed": plugin.failed}))
    return int(status)


def print_hashes(sizes: list[str]) -> int:
    sys.path.insert(0, "/repo")
    sys.dont_write_bytecode = True
    from tarbox_core.hashing import digest

    for size in sizes:
        print(digest(pattern(int(size))).hex())
    return 0


if __name__ == "__main__":
    sys.exit(run_tests() if sys.argv[1] == "tests" else print_hashes(sys.argv[2:]))
