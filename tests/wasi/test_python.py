"""CPython for WASI at work on a tenant: an archive unpacked, its tests run, its modules compiled, and all of it removed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from tests.pg.cli import Tarbox
from tests.wasi.bundle import python_wasm
from tests.wasi.helpers import wasi_run

MODULES, TESTS = 480, 20
EACH = MODULES // TESTS

MODULE = '''"""Module {n} of a package."""

from . import {before}


def value(depth):
    return {n} if not depth else {n} + {before}.value(depth - 1)
'''
TEST = '''import unittest

from corpus import {names}


class Case{n}(unittest.TestCase):
    def test_values(self):
        for number, module in enumerate(({names},), {first}):
            self.assertEqual(module.value(0), number)
            self.assertEqual(module.value(1), number + number // 2)
'''
WORK = r"""
import compileall, json, os, shutil, sys, unittest, zipfile

os.chdir("/work")
with zipfile.ZipFile("/corpus.zip") as archive:
    archive.extractall()
sys.path.insert(0, "/work")
sys.dont_write_bytecode = True
found = {"ran": 0, "bad": 0}
done = unittest.TextTestRunner(stream=sys.stderr).run(unittest.defaultTestLoader.discover("/work/tests"))
found["ran"], found["bad"] = done.testsRun, len(done.errors) + len(done.failures)
found["compiled"] = bool(compileall.compile_dir("/work/corpus", quiet=1))
walked = [os.path.join(folder, name) for folder, _, names in os.walk("/work") for name in names]
found["sources"] = sum(name.endswith(".py") for name in walked)
found["pycs"] = sum(name.endswith(".pyc") for name in walked)
found["bytes"] = sum(os.stat(name).st_size for name in walked if name.endswith(".py"))
shutil.rmtree("/work/tests")
shutil.rmtree("/work/corpus")
found["left"] = os.listdir("/work")
print(json.dumps(found))
"""


def corpus() -> dict[str, str]:
    """500 files of a package and its tests, by their names."""
    files = {}
    for n in range(MODULES):
        before = f"m{n // 2}"
        files[f"corpus/m{n}.py"] = MODULE.format(n=n, before=before) if n else "def value(depth):\n    return 0\n"
    for n in range(TESTS):
        names = [f"m{number}" for number in range(n * EACH, (n + 1) * EACH)]
        files[f"tests/test_{n}.py"] = TEST.format(n=n, names=", ".join(names), first=n * EACH)
    return files


def test_python_unpacks_tests_compiles_and_removes_a_package(tarbox: Tarbox, tmp_path: Path) -> None:
    files = corpus()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    tarbox("write", "/corpus.zip", given=packed.getvalue())
    tarbox("mkdir", "/work")
    before = sorted(tmp_path.rglob("*"))

    ended = wasi_run(tarbox, python_wasm(), "-c", WORK)

    assert ended.status == 0, ended.said
    assert json.loads(ended.out) == {
        "ran": TESTS, "bad": 0, "compiled": True, "sources": len(files), "pycs": MODULES, "bytes": sum(map(len, files.values())), "left": [],
    }  # fmt: skip
    assert tarbox.names("/work") == []
    assert sorted(tmp_path.rglob("*")) == before, "something came to lie on the host"
    records = [(record["operation"], record["path"]) for record in tarbox.json("audit", "--path", "/work", "--limit", "100000")]
    for name in files:
        assert ("create", f"/work/{name}") in records
        assert ("unlink", f"/work/{name}") in records
    for n in range(MODULES):
        made = f"/work/corpus/__pycache__/m{n}.cpython-312.pyc"
        # Written under another name, and renamed.
        assert ("rename", made) in records or ("create", made) in records or any(path and path.startswith(made) for _, path in records)
        assert ("unlink", made) in records
    assert ("rmdir", "/work/corpus") in records
