"""What old versions of a text cost. `python benchmarks/texts.py [--layers N] [--size BYTES] [--json]`

A CSV of 1 MB of which one line is changed in each of 200 layers, unless told otherwise, in an embedded PostgreSQL of its own
in a temporary directory. Afterwards gc packs: by how much each layer grew the tables, beside the row of the inode itself, and
how long each layer takes to be read back whole, from cold. Nothing is asserted but that each reads back equal.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tarbox_core import check, tenant
from tarbox_core.drivers import embedded, migrate
from tarbox_core.drivers.packing import pack
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.filesystem import Filesystem
from tarbox_core.types import ROOT_INO, Caller

ROOT = Caller()
NAME = b"table.csv"


def sizes(url: str) -> dict[str, int]:
    """Bytes of each table with its indexes and what it keeps beside it; vacuumed, so that only what is used counts."""
    import pg8000.native

    socket = parse_qs(urlsplit(url).query)["host"][0] + "/.s.PGSQL.5432"
    connection = pg8000.native.Connection(embedded.SUPERUSER, unix_sock=socket, database=urlsplit(url).path[1:])
    try:
        found = {}
        for table in ("text_version", "inode", "extent", "block"):
            connection.run(f"vacuum full {table}")
            found[table] = connection.run("select pg_total_relation_size(cast(:name as regclass))", name=table)[0][0]
        return found
    finally:
        connection.close()


def measure(url: str, layers: int, size: int) -> dict[str, object]:
    with SyncDriver(url, pool_size=1) as owner:
        migrate.init(owner)
        info = owner.run(lambda: tenant.create("texts", now=time.time_ns()))
    with SyncDriver(url, role=info.role, pool_size=2) as driver:
        fs = Filesystem(driver.run(lambda: tenant.attach(info)), time.time_ns, enforce=False, audit=False)
        fs.session.alone = True
        chance = random.Random(1)
        lines = [b"%d,%d,%s\n" % (n, chance.randrange(10**6), chance.randbytes(6).hex().encode()) for n in range(size // 28)]
        sealed: list[tuple[str, bytes]] = []
        first: dict[str, int] = {}
        opened = driver.run(lambda: fs.create(ROOT, ROOT_INO, NAME, 0o644))[1]
        for number in range(layers):
            lines[chance.randrange(len(lines))] = b"changed in layer %d,%d\n" % (number, chance.randrange(10**6))
            content = b"".join(lines)
            driver.run(lambda: opened.truncate(ROOT, 0))
            driver.run(lambda: opened.write(ROOT, 0, content))  # noqa: B023
            driver.run(lambda: opened.flush(ROOT))
            made = driver.run(lambda: fs.checkpoint(ROOT))
            assert made is not None
            sealed.append((made.id, content))
            if number == 1:  # from here on only what changes is added: the first version is packed, as a keyframe
                pack(driver, fs)
                driver.run(lambda: check.gc(fs))
                first = sizes(url)
        driver.run(lambda: opened.release(ROOT))
        driver.run(lambda: check.gc(fs))
        plain = sizes(url)
        began = time.perf_counter()
        packed = pack(driver, fs)
        packing = time.perf_counter() - began
        driver.run(lambda: check.gc(fs))
        then = sizes(url)
        times = []
        for word, content in chance.sample(sealed, len(sealed)):
            view = Filesystem(driver.run(lambda: fs.view(word)), time.time_ns, enforce=False, view=True, audit=False)  # noqa: B023
            ino = driver.run(lambda: view.lookup(ROOT, ROOT_INO, NAME)).ino  # noqa: B023
            began = time.perf_counter()
            seen = driver.run(lambda: view.open(ROOT, ino))  # noqa: B023
            read = driver.run(lambda: seen.read(ROOT, 0, len(content)))  # noqa: B023
            times.append(time.perf_counter() - began)
            assert read == content
        assert driver.run(lambda: check.fsck(fs)) == []
    return {
        "layers": layers, "size": len(sealed[-1][1]), "packed": packed.versions,
        "plain_bytes_per_layer": round((plain["extent"] + plain["block"] - first["extent"] - first["block"]) / (layers - 2)),
        "packed_bytes_per_layer": round(sum(then[name] - first[name] for name in ("text_version", "extent", "block")) / (layers - 2)),
        "delta_bytes_per_layer": round(packed.stored / packed.versions),
        "tables_first": first, "tables_plain": plain, "tables_packed": then,
        "packing_ms_per_version": round(packing * 1000 / max(1, packed.versions), 2),
        "read_ms_median": round(statistics.median(times) * 1000, 2), "read_ms_worst": round(max(times) * 1000, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=200)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tarbox-texts-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        url = embedded.start(folder / "pg")
        found = measure(url, options.layers, options.size)
    finally:
        embedded.stop(folder / "pg")
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<24} {value}")


if __name__ == "__main__":
    main()
