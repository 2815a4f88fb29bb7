"""A tenant as the preopened directory of python.wasm, beside a plain directory that wasmtime itself preopens.

`python benchmarks/wasi.py [--rounds N] [--python FILE] [--json]`

One program, the same on both sides, runs in CPython for WASI and times system calls with the guest's own clock: stat,
open + close, read and write of 64 KiB, listdir of 100 names, and create + write + unlink. The sides take turns; printed are
the medians and their ratio, which holds the guest's own work on both sides. The tenant lies in an embedded PostgreSQL of
its own, in a temporary directory. At the end: how long `tarbox wasi exec -- cat FILE` takes as a whole process, with
what wasmtime compiled before. Nothing is asserted. FILE is the interpreter that `nox -s wasm` built, unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tarbox_core.drivers import embedded

BARS: Final = {"stat": 4.0}  # times native; ten for all else
TEN: Final = 10.0
PROGRAM: Final = r'''
import json, os, sys, time
clock = time.perf_counter

def timed(work, count):
    """Microseconds each, the best of three."""
    found = []
    for _ in range(3):
        began = clock()
        for n in range(count):
            work(n)
        found.append((clock() - began) / count * 1e6)
    return min(found)

os.chdir(sys.argv[1])
os.mkdir("many")
for n in range(100):
    with open("many/file%d" % n, "wb") as file:
        file.write(b"x" * 1000)
block = os.urandom(65536)
with open("big", "wb") as file:
    for n in range(64):
        file.write(n.to_bytes(4, "big") + block[4:])
names = ["many/file%d" % n for n in range(100)]

def opened(n):
    os.close(os.open(names[n % 100], os.O_RDONLY))

def made(n):
    fd = os.open("new%d" % n, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, block[:1024])
    os.close(fd)
    os.unlink("new%d" % n)

reading = os.open("big", os.O_RDONLY)
writing = os.open("written", os.O_RDWR | os.O_CREAT, 0o644)

def read(n):
    os.lseek(reading, n % 64 * 65536, 0)
    assert len(os.read(reading, 65536)) == 65536

def write(n):
    os.lseek(writing, n % 64 * 65536, 0)
    assert os.write(writing, block) == 65536

found = {
    "stat": timed(lambda n: os.stat(names[n % 100]), 1000),
    "open + close": timed(opened, 300),
    "read 64 KiB": timed(read, 300),
    "write 64 KiB": timed(write, 300),
    "listdir of 100": timed(lambda n: os.listdir("many"), 50),
    "create + write + unlink": timed(made, 100),
}
os.close(reading)
os.close(writing)
for name in names + ["big", "written"]:
    os.unlink(name)
os.rmdir("many")
print(json.dumps(found))
'''


def interpreter() -> Path:
    import tarbox_wasi

    return Path(tarbox_wasi.__file__).parent / "bundle" / "python.wasm"


def native(python: Path, folder: str) -> None:
    """The peer's side, as a process of its own: wasmtime's preopened directory."""
    import wasmtime

    config = wasmtime.Config()
    config.cache = True
    engine = wasmtime.Engine(config)
    module = wasmtime.Module.from_file(engine, str(python))
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["python", "-c", PROGRAM, "/"]
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    wasi.preopen_dir(folder, "/")
    store.set_wasi(wasi)
    start = linker.instantiate(store, module).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as end:
        sys.exit(end.code)


def timings(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(python: Path, folder: Path, rounds: int) -> dict[str, object]:
    url = embedded.start(folder / "pg")
    tarbox = [sys.executable, "-m", "tarbox_cli", "--database-url", url, "--tenant", "bench"]
    for words in (["init"], ["tenant", "create", "bench"]):
        subprocess.run([*tarbox[:5], *words], check=True, stdout=subprocess.DEVNULL)
    plain = folder / "plain"
    plain.mkdir()
    sides = {
        "tenant": [*tarbox, "wasi", "run", str(python), "-c", PROGRAM, "/"],
        "native": [sys.executable, __file__, "--python", str(python), "--native", str(plain)],
    }
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, command in sides.items():
            runs[side].append(timings(command))
    found: dict[str, object] = {}
    for name in runs["native"][0]:
        ours, theirs = (statistics.median(run[name] for run in runs[side]) for side in ("tenant", "native"))
        found[name] = {"tenant_us": round(ours, 1), "native_us": round(theirs, 1), "ratio": round(ours / theirs, 2), "bar": BARS.get(name, TEN)}
    found["exec cat, ms"] = round(shell(tarbox) * 1000)
    return found


def shell(tarbox: list[str]) -> float:
    """Seconds that `tarbox wasi exec -- cat FILE` takes, the middle of five, after one that compiles."""
    subprocess.run([*tarbox, "write", "/greeting"], input=b"hello\n", check=True)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        done = subprocess.run([*tarbox, "wasi", "exec", "--", "cat", "/greeting"], stdout=subprocess.PIPE, check=True, timeout=120)
        times.append(time.perf_counter() - began)
        assert done.stdout == b"hello\n"
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", type=Path, default=None, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--native", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    python = options.python or interpreter()
    if not python.exists():
        parser.error(f"there is no {python}: build it with `nox -s wasm`, or name one with --python")
    if options.native:
        return native(python, options.native)
    folder = Path(tempfile.mkdtemp(prefix="tarbox-wasi-", dir="/tmp"))
    folder.chmod(0o711)
    os.environ.pop("TARBOX_DATABASE_URL", None)
    try:
        found = measure(python, folder, options.rounds)
    finally:
        embedded.stop(folder / "pg")
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{'':<26}{'tenant':>10}{'native':>10}{'ratio':>8}{'bar':>6}")
    for name, line in found.items():
        if isinstance(line, dict):
            print(f"{name:<26}{line['tenant_us']:>7.1f} us{line['native_us']:>7.1f} us{line['ratio']:>8.2f}{line['bar']:>6.0f}")
        else:
            print(f"{name:<26}{line}")


if __name__ == "__main__":
    main()
