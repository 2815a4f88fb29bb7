"""tarbox audit, audit report, verify and prune as a user meets them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import tarbox_core
from tarbox_core.trail import OPERATIONS
from tests.conftest import PgServer
from tests.pg.cli import Tarbox, fresh


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        yield command


@pytest.fixture
def busy(tarbox: Tarbox) -> Tarbox:
    tarbox("mkdir", "/data")
    tarbox("write", "/data/a.txt", "hello")
    tarbox("mv", "/data/a.txt", "/data/b c.txt")
    tarbox("write", "/other", "x" * 3000)
    tarbox("mkdir", b"/odd\xff\n".decode("utf-8", "surrogateescape"))
    return tarbox


@pytest.fixture
def superuser(pg_server: PgServer, schema_url: str) -> Iterator[Any]:
    made = pg_server.connect(urlsplit(schema_url).path[1:])
    yield made
    made.close()


def lines(output: bytes) -> list[list[str]]:
    """The columns of each line but the first, the time left out."""
    return [re.split(r"  +", line)[1:] for line in output.decode().splitlines()[1:]]


def changed(found: Any) -> list[tuple[str, str]]:
    return [(record["operation"], record["path"]) for record in found if record["operation"] in ("mkdir", "create", "write", "rename")]


def test_lines(busy: Tarbox) -> None:
    shown = busy("audit", "--operation", "mkdir", "--operation", "write", "--operation", "rename")
    assert shown.splitlines()[0].split() == [b"TIME", b"USER", b"OPERATION", b"RESULT", b"LAYER", b"PATH"]
    user = busy.json("audit", "--limit", "1")[0]
    layer = user["layer"][:8]
    who = lines(shown)[0][0]
    assert lines(shown) == [
        [who, "mkdir", "-", layer, "/data"], [who, "write", "5B", layer, "/data/a.txt", "(+1 -0 ~0)"],
        [who, "rename", "-", layer, "/data/a.txt -> '/data/b c.txt'"], [who, "write", "2.9KB", layer, "/other", "(+1 -0 ~0)"],
        [who, "mkdir", "-", layer, "$'/odd\\\\xff\\n'"],
    ]  # fmt: skip
    assert re.match(rb"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  ", shown.splitlines()[1])
    assert user["uid"] == os.geteuid()


def test_filters(busy: Tarbox) -> None:
    assert changed(busy.json("audit", "--path", "/data")) == [
        ("mkdir", "/data"), ("create", "/data/a.txt"), ("write", "/data/a.txt"), ("rename", "/data/a.txt"),
    ]  # fmt: skip
    assert changed(busy.json("audit", "--path", "data/b c.txt")) == [("rename", "/data/a.txt")]
    assert changed(busy.json("audit", "--path", "/dat")) == []
    assert busy.json("audit", "--path", "//other/../data/./") == busy.json("audit", "--path", "/data")
    assert busy.json("audit", "--path", ".") == busy.json("audit", "--path", "/") == busy.json("audit")
    assert busy.json("audit", "--uid", "4000000") == []
    everything = busy.json("audit", "--limit", "0")
    assert busy.json("audit", "--uid", str(os.geteuid())) == everything == busy.json("audit", "--since", "1 day ago", "--until", "now")
    assert busy.json("audit", "--until", "1 minute ago") == []
    assert busy.json("audit", "--since", everything[3]["time"]) == everything[3:]
    assert busy.json("audit", "--until", everything[3]["time"]) == everything[:3]
    assert busy.json("audit", "--limit", "2") == everything[-2:]
    assert [record["id"] for record in everything] == sorted(record["id"] for record in everything) or len(everything) > 5  # by time, not by id
    assert [record["time"] for record in everything] == sorted(record["time"] for record in everything)
    assert busy.json("audit", "--layer", "head") == everything == busy.json("audit", "--layer", everything[0]["layer"][:6])
    busy("layer", "create", "monday")
    busy("mkdir", "/tuesday")
    assert changed(busy.json("audit", "--layer", "head")) == [("mkdir", "/tuesday")]
    assert changed(busy.json("audit", "--layer", "monday")) == changed(everything)
    assert busy.json("audit", "--layer", "monday", "--operation", "mkdir")[0]["layer_name"] == "monday"
    assert "no layer named 'never'" in busy.fails("audit", "--layer", "never")


def test_csv_and_json_hold_the_same(busy: Tarbox) -> None:
    rows = list(csv.DictReader(io.StringIO(busy("audit", "--csv").decode())))
    records = busy.json("audit")
    assert [{key: "" if value is None else str(value) for key, value in record.items() if key != "metadata"} for record in records] == [
        {key: value for key, value in row.items() if key != "metadata"} for row in rows
    ]
    assert [json.loads(row["metadata"]) if row["metadata"] else None for row in rows] == [record["metadata"] for record in records]
    assert {"to": "/data/b c.txt"} in [record["metadata"] for record in records]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", records[0]["time"])
    assert busy("audit", "--csv", "--operation", "mknod").decode().count("\n") == 1


def test_records_of_layers_say_which(tarbox: Tarbox) -> None:
    tarbox("layer", "create", "one", "-m", "the first")
    tarbox("write", "/f", "x")
    two = tarbox.json("layer", "create", "two")["id"][:8]
    one = tarbox.json("layer", "switch", "one")["layer"]["id"][:8]
    tarbox("layer", "branch", "side", "two")
    tarbox("layer", "branch", "delete", "side")
    tarbox("layer", "switch", "two")
    tarbox("layer", "squash", "one..two", "--yes")
    tarbox("layer", "create", "three")
    tarbox("layer", "switch", "two")
    three = next(layer["id"] for layer in tarbox.json("layer", "list") if layer["name"] == "three")[:8]
    tarbox("layer", "delete", "three", "--yes")
    told = [(row[1], *row[4:]) for row in lines(tarbox("audit")) if row[1] not in ("create", "open", "write")]
    assert told == [
        ("checkpoint", "/", "one"), ("checkpoint", "/", "two"), ("switch", "/", f"to {one}"), ("branch", "/", f"side on {two}"),
        ("branch_delete", "/", "side"), ("switch", "/", f"to {two}"), ("squash", "/", f"1 layer into {two}"), ("checkpoint", "/", "three"),
        ("switch", "/", f"to {two}"), ("layer_delete", "/", f"three ({three})"),
    ]  # fmt: skip


def test_the_operations_that_may_be_asked_for_are_those_that_are_recorded() -> None:
    """Each verb's name stands in a string of the core, or in the schema."""
    core = Path(tarbox_core.__file__).parent
    sources = "".join(file.read_text() for file in [*core.rglob("*.py"), *core.rglob("*.sql")] if file.name != "trail.py")
    asked = set(re.findall(r"(?:record|note|failing|_failing)\((?:self\.session, |s, )?caller, \"(\w+)\"", sources))
    assert asked and asked <= set(OPERATIONS)
    assert [name for name in OPERATIONS if f'"{name}"' not in sources and f"'{name}'" not in sources] == []


def test_many_records_come_in_pages(tarbox: Tarbox, superuser: Any) -> None:
    superuser.run("insert into audit_logs (tenant, layer, operation, uid, pid, path) select tenant, 1, 'readlink', 0, 0, '/' || n from tenant,"
                  " generate_series(1, 2500) n where name = :t", t=tarbox.tenant)  # fmt: skip
    paths = [record["path"] for record in tarbox.json("audit", "--operation", "readlink", "--limit", "0")]
    assert paths == [f"/{n}" for n in range(1, 2501)]
    assert [record["path"] for record in tarbox.json("audit", "--operation", "readlink", "--limit", "1500")] == paths[1000:]
    assert len(tarbox.json("audit", "--operation", "readlink")) == 100


def test_bad_input_is_told_in_a_line(tarbox: Tarbox) -> None:
    assert "'soon' is not a time: " in tarbox.fails("audit", "--since", "soon", status=2)
    assert "--since is not before --until" in tarbox.fails("audit", "--since", "now", "--until", "yesterday", status=2)
    assert "no user 'nobody-of-this-name'" in tarbox.fails("audit", "--uid", "nobody-of-this-name", status=2)
    assert "is not a user" in tarbox.fails("audit", "--uid", "0:0", status=2)
    assert "exclude each other" in tarbox.fails("audit", "--csv", "--json", status=2)
    for wrong in ("some", "-1"):
        assert f"{wrong!r} is not a number from 0 up" in tarbox.fails("audit", "--limit", wrong, status=2)
    assert "invalid choice: 'wirte' (choose from" in tarbox.fails("audit", "--operation", "wirte", status=2)
    assert "is not a time" in tarbox.fails("audit", "--since", "999999999 days ago", status=2)
    assert tarbox.json("audit", "--since", "9999-12-31") == []
    assert "'12' is not a digest" in tarbox.fails("audit", "verify", "--expect", "12", status=2)
    assert "not a number from 1 up" in tarbox.fails("audit", "prune", "--retention-days", "0", status=2)
    assert "not a number up to 365000" in tarbox.fails("audit", "prune", "--retention-days", "365001", status=2)
    assert tarbox("audit", "prune", "--retention-days", "365000").startswith(b"removed 0 audit records from before 1")
    assert "reprot" in tarbox.fails("audit", "reprot", status=2)
    assert "'soon' is not a time" in tarbox.fails("audit", "report", "--since", "soon", status=2)


def test_follow(busy: Tarbox) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-m", "tarbox_cli", "audit", "--follow", "--json", "--limit", "1", "--operation", "mkdir"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=busy.folder, env=busy.env,
    )  # fmt: skip
    assert follower.stdout is not None
    try:
        assert json.loads(follower.stdout.readline())["path"] == "/odd\\xff\n"
        busy("mkdir", "/one")
        assert json.loads(follower.stdout.readline())["path"] == "/one"
        busy("write", "/not-asked-for", "x")
        busy("mkdir", "/two")
        assert json.loads(follower.stdout.readline())["path"] == "/two"
        time.sleep(1.2)  # it has nothing to tell
        follower.send_signal(signal.SIGINT)
        assert follower.communicate(timeout=60) == (b"", b"") and follower.returncode == 0
    finally:
        follower.kill()
        follower.wait()


def test_report(busy: Tarbox) -> None:
    with pytest.raises(AssertionError):
        busy("rmdir", "/data")
    found = busy.json("audit", "report", "--top", "2")
    assert len(found["paths"]) == 2 and found["paths"][0] == {"path": "/data/a.txt", "records": 4, "bytes": 5, "failures": 0}
    operations = {entry["operation"]: entry for entry in found["operations"]}
    assert operations["mkdir"]["records"] == 2 and operations["write"]["bytes"] == 3005 and operations["rmdir"]["failures"] == 1
    assert 1 <= len(found["days"]) <= 2 and sum(day["records"] for day in found["days"]) == sum(entry["records"] for entry in operations.values())
    shown = busy("audit", "report", "--path", "/other").decode()
    assert [line.split() for line in shown.splitlines() if "/other" in line] == [["3", "2.9K", "0", "/other"]]
    assert shown.count("RECORDS  BYTES  FAILURES") == 3


def test_verify(busy: Tarbox, superuser: Any) -> None:
    def verdict(*words: str, status: int = 0) -> Any:
        """Once nothing is too new to be sealed: the server's own transactions may hold sealing up for a moment."""
        for _ in range(100):
            ended, out, _ = busy.here("audit", "verify", "--json", *words)
            found = json.loads(out)
            assert ended == status
            if not found["unsealed"]:
                return found
        raise AssertionError(found)

    first = verdict()
    assert first["verified"] and first["records"] > 5 and first["seals"] >= 1 and first["troubles"] == [] and re.fullmatch("[0-9a-f]{64}", first["digest"])
    shown = busy("audit", "verify").decode().splitlines()
    seals = "1 seal" if first["seals"] == 1 else f"{first['seals']} seals"
    assert shown == [f"{busy.tenant}: verified: {first['records']} records under {seals}", f"digest: {first['digest']}"]
    busy("mkdir", "/more")
    second = verdict("--expect", first["digest"])
    assert second["digest"] != first["digest"] and second["verified"]
    (trouble,) = verdict("--expect", "ab" * 32, status=1)["troubles"]
    assert trouble["kind"] == "not-extended"
    whose = "tenant = (select tenant from tenant where name = :n)"
    superuser.run(f"delete from audit_logs where path = '/data/a.txt' and operation = 'write' and {whose}", n=busy.tenant)
    (trouble,) = verdict(status=1)["troubles"]
    assert trouble["kind"] == "removed" and trouble["sealed"] - trouble["found"] == 1 and re.fullmatch(r"20\d\d-\d\d-\d\d", trouble["week"])
    status, out, err = busy.here("audit", "verify")
    assert status == 1 and err == "" and b"removed: week of 20" in out and b": NOT AS IT WAS WRITTEN: " in out


def test_prune_and_gc_end_what_is_older_than_the_days_to_keep(tarbox: Tarbox, superuser: Any) -> None:
    def add(days: int) -> None:
        superuser.run("insert into audit_logs (tenant, layer, operation, uid, pid, created_at) select tenant, 1, 'old', 0, 0, now() - :d * interval '1 day'"
                      " from tenant where name = :n", n=tarbox.tenant, d=days)  # fmt: skip

    for days in (300, 100, 50):
        add(days)
    assert tarbox.json("audit", "prune", "--retention-days", "200")["records"] == 1
    assert tarbox("audit", "prune", "--retention-days", "200").startswith(b"removed 0 audit records from before 20")
    assert tarbox.json("gc")["audit_records"] == 1  # 90 days, unless configured otherwise
    (tarbox.folder / "tarbox.toml").write_text("[audit]\nretention_days = 30\n")
    status, out, err = tarbox.here("gc")
    assert (status, err) == (0, "") and re.search(rb"\nremoved 1 audit record from before 20\d\d-\d\d-\d\d \(UTC\), of all tenants\n$", out)
    assert [record["operation"] for record in tarbox.json("audit", "--operation", "mknod")] == []
    told = tarbox.json("audit", "--operation", "prune")
    assert [(record["metadata"]["retention_days"], record["metadata"]["records_ever"], record["layer"]) for record in told] == [
        (200, 1, None), (90, 2, None), (30, 3, None),
    ]  # fmt: skip
    superuser.run("set timezone = 'UTC'")
    ((since, until),) = superuser.run("select week::text, (week + interval '7 days')::text from date_trunc('week', now() - interval '60 days') week")
    superuser.run(f"create table audit_logs_long_ago partition of audit_logs for values from ('{since}') to ('{until}')")
    superuser.run("alter table audit_logs_long_ago owner to tarbox")
    add(60)
    superuser.run("begin")
    superuser.run("lock table audit_logs in access share mode")  # as a dump does
    status, out, err = tarbox.here("gc", "--json")
    superuser.run("rollback")
    assert status == 1 and "held by a long transaction" in err and json.loads(out)["audit_records"] is None
    assert tarbox.json("gc")["audit_records"] == 1


def test_audit_is_a_command_and_begins_others(tarbox: Tarbox) -> None:
    help_text = tarbox("audit", "--help").decode()
    assert "--follow" in help_text and "tarbox audit verify" in help_text
    assert "--expect" in tarbox("audit", "verify", "--help").decode()
    assert tarbox("--tenant", tarbox.tenant, "audit", "report").startswith(b"RECORDS")
    completions = {word for line in tarbox("__complete", "fish", "--", "audit", "").decode().splitlines() for word in line.split("\t")[:1]}
    assert {"report", "verify", "prune"} <= completions
    assert b"--follow" in tarbox("__complete", "fish", "--", "audit", "--fo")
    assert b"--until" in tarbox("__complete", "fish", "--", "audit", "--since", "yesterday", "--un")
