"""Runs a fetched copy of the public wasi-testsuite (its programs for preview1) on a tenant: `python tests/wasi/suite.py CHECKOUT [NAME...]`.

The copy is one of its branch prod/testsuite-base, which has the programs built. Each of them gets a directory of its own in a tenant of
a new embedded PostgreSQL, filled as its JSON file says, and is then asked for the exit code and the output that this file
names. Printed are the counts, and of each program that fails what it said. Ends with 1 where any fails, or fsck finds something.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tarbox_core.drivers import embedded
from tarbox_wasi import run

PROGRAMS = "tests/*/testsuite/wasm32-wasip1/*.wasm"
TIMEOUT = 60.0  # seconds for one program


class Suite:
    """A tenant that programs are run on."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def tarbox(self, *words: str) -> None:
        command = [sys.executable, "-m", "tarbox_cli", "--database-url", self.url]
        subprocess.run([*command, *words], check=True, stdout=subprocess.DEVNULL)

    def trouble(self, program: Path) -> str:
        """What is wrong with how a program ended; nothing where it did as it should."""
        described = program.with_suffix(".json")
        asked: dict[str, Any] = json.loads(described.read_text()) if described.exists() else {}
        dirs: dict[str | bytes, str | bytes] = {}
        if "root" in asked:
            place = f"/{program.stem}"
            self.tarbox("mkdir", "--tenant", "suite", place)
            self.tarbox("put", "--tenant", "suite", f"{program.parent / asked['root']}/.", place)
            dirs["/"] = place
        out, err = self.folder / "out", self.folder / "err"
        with open("/dev/null", "rb") as stdin, out.open("wb") as stdout, err.open("wb") as stderr:
            stdio = (stdin.fileno(), stdout.fileno(), stderr.fileno())
            ended = run(
                program, asked.get("args", []), tenant="suite", database_url=self.url, dirs=dirs, env=asked.get("env", {}), stdio=stdio, timeout=TIMEOUT
            )  # fmt: skip
        printed, expected = out.read_text(), asked.get("stdout")
        wrong = [f"{ended.reason or 'exit code'} {ended.exit_code}"] if ended.exit_code != asked.get("exit_code", 0) else []
        wrong += [f"printed {printed!r}"] if expected not in (None, printed) else []
        return ": ".join([*wrong, err.read_text()]) if wrong else ""


def main() -> None:
    checkout, *names = sys.argv[1:]
    programs = [program for program in sorted(Path(checkout).glob(PROGRAMS)) if not names or program.stem in names]
    if not programs:
        sys.exit(f"{checkout}: no {PROGRAMS}")
    folder = Path(tempfile.mkdtemp(prefix="tarbox-suite-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        suite = Suite(embedded.start(folder / "pg"), folder)
        suite.tarbox("init")
        suite.tarbox("tenant", "create", "suite")
        passed: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        for program in programs:
            language = program.relative_to(checkout).parts[1]
            trouble = suite.trouble(program)
            (failed if trouble else passed)[language] += 1
            if trouble:
                print(f"{language}/{program.stem}: {trouble}")
        suite.tarbox("fsck", "--tenant", "suite")
    finally:
        embedded.stop(folder / "pg")
        shutil.rmtree(folder)
    for language in sorted(passed | failed):
        print(f"{language}: {passed[language]} passed, {failed[language]} failed")
    print(f"{passed.total()} passed, {failed.total()} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
