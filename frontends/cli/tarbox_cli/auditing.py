"""Commands on the audit trail: audit, audit report, verify and prune. What is recorded, and what a seal proves, is docs/audit.md's."""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tarbox_cli.arguments import UsageError, count, count_or_none, layer_word, moment, owner, tenant_path
from tarbox_cli.output import Output, human, iso, quote
from tarbox_cli.session import Session, administer, enter, settings
from tarbox_cli.users import user_name, whoever
from tarbox_core import trail
from tarbox_core.columns import padded, some
from tarbox_core.errors import errno_name
from tarbox_core.layer import SHOWN
from tarbox_core.listing import headline
from tarbox_core.trail import Place, Record, Sum, Wanted

if TYPE_CHECKING:
    from tarbox_cli.commands import Verbs

PAGE: Final = 1000  # records fetched at once
LIMIT: Final = 100
DAYS_MAX: Final = 365_000  # a thousand years
FIELDS: Final = ("id", "time", "operation", "path", "inode", "uid", "pid", "result", "bytes", "layer", "layer_name", "metadata")

Print = Callable[[Iterable[Record]], None]


# --- which records


def _user(word: str) -> int:
    """A user by name or number."""
    uid, _ = owner(word)
    if uid is None or ":" in word:
        raise ArgumentTypeError(f"{word!r} is not a user")
    return uid


def _kept_days(word: str) -> int:
    """A number of days that a calendar goes back."""
    days = count(word)
    if days > DAYS_MAX:
        raise ArgumentTypeError(f"{word!r} is not a number up to {DAYS_MAX}")
    return days


def _wanted_arguments(parser: ArgumentParser) -> None:
    words = "a date, a time, '1 day ago' (or seconds, minutes, hours, weeks), yesterday, today, @SECONDS"
    parser.add_argument("--since", metavar="TIME", type=moment, default=0, help=f"from when on: {words}")
    parser.add_argument("--until", metavar="TIME", type=moment, default=trail.FOREVER, help="until before when")
    parser.add_argument("--path", metavar="PATH", type=tenant_path, help="what was done to this path and everything below it")
    parser.add_argument("--operation", metavar="NAME", action="append", choices=trail.OPERATIONS, help="create, write, rename, ...; may be given several times")
    parser.add_argument("--uid", metavar="USER", type=_user, help="what this user did; a name or a number")
    parser.add_argument("--layer", metavar="LAYER", type=layer_word, help='what was done in a layer: its name, the beginning of its id, or "head"')


def _wanted(options: Namespace, session: Session) -> Wanted:
    if options.since >= options.until:
        raise UsageError("--since is not before --until", "audit")
    path = None if options.path is None else _plain(options.path).decode("utf-8", "backslashreplace")
    layer = None if options.layer is None else session.driver.run(lambda: session.fs.layer(options.layer)).stamp
    return Wanted(options.since, options.until, path, options.operation, options.uid, layer)


def _plain(path: bytes) -> bytes:
    """A path as it is recorded: without dots and empty names."""
    return b"/" + os.path.normpath(path).lstrip(b"/")


# --- audit


def audit_arguments(parser: ArgumentParser) -> None:
    _wanted_arguments(parser)
    parser.add_argument("--limit", metavar="N", type=count_or_none, default=LIMIT, help=f"at most the newest N ({LIMIT}); 0 for all")
    parser.add_argument("--follow", "-f", action="store_true", help="go on with what is recorded from now on, until interrupted")
    parser.add_argument("--csv", action="store_true", help="print comma-separated values with a header")


def audit(options: Namespace, out: Output) -> int:
    if options.csv and options.json:
        raise UsageError("--json and --csv exclude each other", "audit")
    with enter(options, changes=False) as session:
        wanted = _wanted(options, session)
        printed = _printing(options, out)
        if options.follow:
            _follow(session, wanted, options.limit, printed, out)
        else:
            printed(_listed(session, wanted, options.limit, out))
    return 0


def _listed(session: Session, wanted: Wanted, limit: int, out: Output) -> Iterator[Record]:
    """The newest so many records, or all, oldest first."""
    run, s = session.driver.run, session.fs.session
    after: Place | None = run(lambda: trail.newest(s, wanted, limit)) if limit else None
    if after is not None and out.terminal:
        out.line(f"... and older ones: --limit 0 shows all, --limit N the newest N ({limit})")
    place = after or trail.start(wanted)
    left = limit or trail.FOREVER
    while left and (page := run(partial(trail.page, s, wanted, place, min(left, PAGE)))):
        yield from page
        left -= len(page)
        place = trail.place(page[-1])


def _follow(session: Session, wanted: Wanted, limit: int, printed: Print, out: Output) -> None:
    """As `tail -f`: nothing is left out, nothing told twice, whatever commits late."""
    s = session.fs.session
    before = session.driver.run(lambda: trail.snapshot(s))
    oldest = int(before.split(":")[0])  # all transactions below it were over by then
    told: set[int] = set()

    def listed() -> Iterator[Record]:
        for record in _listed(session, wanted, limit, out):
            if record.xact >= oldest:
                told.add(record.id)
            yield record

    try:
        printed(listed())
        while True:
            out.flush()
            time.sleep(1)
            before, records = session.driver.run(partial(trail.since, s, wanted, before))
            printed([record for record in records if record.id not in told])
            told.clear()
    except KeyboardInterrupt:
        out.flush()


def _printing(options: Namespace, out: Output) -> Print:
    """How records are printed: any number of times one after another, or as one JSON document."""
    if options.csv:
        return _csv(out)
    if options.json:
        return _json_lines(out) if options.follow else lambda records: _json(records, out)
    return _lines(out)


def _lines(out: Output) -> Print:
    out.line(_columns("TIME", "USER", "OPERATION", "RESULT", "LAYER", "PATH"))

    def printed(records: Iterable[Record]) -> None:
        for r in records:
            out.line(_columns(_local(r.at), user_name(r.uid), r.operation, _result(r), r.layer_name or (r.layer or "-")[:8], _what(r)))

    return printed


def _columns(at: str, user: str, operation: str, result: str, layer: str, what: str) -> str:
    """A line whose columns stand under each other; the widths cannot wait for the last record."""
    return f"{at:<19}  {padded(user, 10)}  {operation:<14}  {result:>10}  {padded(layer, 12)}  {what}"


def _local(ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // 10**9))


def _result(record: Record) -> str:
    if record.result:
        return errno_name(record.result)
    return f"{human(record.bytes)}B" if record.bytes else "-"


def _what(record: Record) -> str:
    """The path, where it went, and what is known of a text. Much of it is what clients said: none of it may command a terminal."""
    path = quote(record.path.encode()) if record.path is not None else f"inode {record.ino}" if record.ino is not None else "-"
    metadata = record.metadata or {}
    if record.operation == "rename" and isinstance(metadata.get("to"), str):
        path += f" {'<->' if metadata.get('exchange') else '->'} {quote(metadata['to'].encode())}"
    about = _about(record.operation, metadata)
    if about:
        path += f"  {about}"
    changes = metadata.get("text_changes")
    if isinstance(changes, dict) and changes.get("is_text_file"):
        path += f"  (+{changes.get('lines_added', 0)} -{changes.get('lines_deleted', 0)} ~{changes.get('lines_modified', 0)})"
    return headline(path)


def _about(operation: str, metadata: dict[str, Any]) -> str:
    """Which layers and branches a record is about; ids as `tarbox layer list` shows them."""
    name = str(metadata.get("name") or "")
    layer, to, start, into = (str(metadata.get(key) or "")[:SHOWN] for key in ("layer", "to", "from", "into"))
    match operation:
        case "checkpoint" | "branch_delete":
            return name
        case "switch":
            return f"to {to}"
        case "branch":
            return f"{name} on {start}"
        case "squash":
            return f"{some(len(metadata.get('layers') or ()), 'layer')} into {into}"
        case "layer_delete":
            return f"{name} ({layer})" if name else layer
        case "token_create" | "token_revoke" | "token_use" | "token_refused":
            known = [f"token {metadata['token']}"] if "token" in metadata else []
            return ", ".join([*known, *(str(metadata[key]) for key in ("reason", "name", "verb", "path", "origin", "peer") if metadata.get(key))])
        case "layer_describe":
            return layer
        case _:
            return ""


def _described(record: Record) -> dict[str, Any]:
    values = (
        record.id, iso(record.at), record.operation, record.path, record.ino, record.uid, record.pid, record.result, record.bytes,
        record.layer, record.layer_name, record.metadata,
    )  # fmt: skip
    return dict(zip(FIELDS, values, strict=True))


def _json(records: Iterable[Record], out: Output) -> None:
    """One array, written as it comes."""
    import json

    before = "["
    for record in records:
        out.write(f"{before}\n  {json.dumps(_described(record), ensure_ascii=False)}".encode())
        before = ","
    out.line("[]" if before == "[" else "\n]")


def _json_lines(out: Output) -> Print:
    import json

    def printed(records: Iterable[Record]) -> None:
        for record in records:
            out.line(json.dumps(_described(record), ensure_ascii=False))

    return printed


def _csv(out: Output) -> Print:
    import csv
    import io
    import json

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")

    def row(values: Iterable[Any]) -> None:
        writer.writerow(values)
        out.write(text.getvalue().encode())
        text.seek(0)
        text.truncate()

    def printed(records: Iterable[Record]) -> None:
        for record in records:
            shown = _described(record)
            shown["metadata"] = None if record.metadata is None else json.dumps(record.metadata, ensure_ascii=False)
            row(shown.values())

    row(FIELDS)
    return printed


# --- audit report


def report_arguments(parser: ArgumentParser) -> None:
    _wanted_arguments(parser)
    parser.add_argument("--top", metavar="N", type=count, default=10, help="how many paths (10)")


def report(options: Namespace, out: Output) -> int:
    with enter(options, changes=False) as session:
        wanted = _wanted(options, session)
        found = session.driver.run(lambda: trail.report(session.fs.session, wanted, options.top))
    days: dict[str, Sum] = {}
    for slot, total in found.times.items():
        day = iso(slot)[:10] if options.json else _local(slot)[:10]
        days[day] = Sum(*map(sum, zip(days.get(day, (0, 0, 0)), total, strict=True)))
    parts: tuple[tuple[str, str, dict[str, Sum]], ...] = (("DAY", "day", days), ("OPERATION", "operation", found.operations), ("PATH", "path", found.paths))
    if options.json:
        out.json({f"{key}s": [{key: name, **total._asdict()} for name, total in sums.items()] for _, key, sums in parts})
        return 0
    for at, (head, key, sums) in enumerate(parts):
        if at:
            out.line("")
        names = {name: quote(name.encode()) if key == "path" else name for name in sums}
        out.table(("RECORDS", "BYTES", "FAILURES", head), [(str(n), human(size), str(failures), names[name]) for name, (n, size, failures) in sums.items()])
    return 0


# --- audit verify


def _digest(word: str) -> bytes:
    """The 64 hexadecimal digits that verify printed earlier."""
    try:
        digest = bytes.fromhex(word)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ArgumentTypeError(f"{word!r} is not a digest: give the 64 digits that `tarbox audit verify` printed")
    return digest


def verify_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--expect", metavar="DIGEST", type=_digest, help="what an earlier verify printed: the trail must have grown from there")


def verify(options: Namespace, out: Output) -> int:
    from tarbox_core import sealing

    with enter(options, changes=False) as session:
        s = session.fs.session
        while session.driver.run(lambda: sealing.seal(s), durable=True):
            pass
        found = session.driver.run(lambda: sealing.verify(s, options.expect))
        name = session.tenant.name
    if options.json:
        out.json({
            "tenant": name, "verified": not found.troubles, "records": found.records, "seals": found.seals, "unsealed": found.unsealed,
            "pruned": found.pruned, "servers": found.servers, "digest": found.head.hex(),
            "troubles": [{
                "kind": trouble.kind, "text": str(trouble), "week": None if trouble.week is None else iso(trouble.week)[:10],
                "transactions": None if trouble.week is None else [trouble.lo, trouble.hi - 1], "sealed": trouble.sealed, "found": trouble.found,
            } for trouble in found.troubles],
        })  # fmt: skip
        return 1 if found.troubles else 0
    for trouble in found.troubles:
        out.line(f"{trouble.kind}: {trouble}")
    told = [f"{some(found.records, 'record')} under {some(found.seals, 'seal')}"]
    if found.unsealed:
        told.append(f"{found.unsealed} too new to be sealed")
    if found.pruned:
        told.append(f"{found.pruned} taken by retention")
    if found.servers > 1:
        told.append(f"written by {found.servers} servers, one after another")
    out.line(f"{name}: {'NOT AS IT WAS WRITTEN' if found.troubles else 'verified'}: {', '.join(told)}")
    out.line(f"digest: {found.head.hex()}")
    return 1 if found.troubles else 0


# --- audit prune


def prune_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--retention-days", metavar="DAYS", type=_kept_days, help="keep so many days; else retention_days of the configuration")


def prune(options: Namespace, out: Output) -> int:
    days = options.retention_days or settings(options).audit.retention_days
    caller = whoever().caller
    with administer(options) as driver:
        pruned = driver.run(lambda: trail.prune(days, caller.uid, caller.pid), durable=True)
    before = iso(pruned.before)[:10]
    if options.json:
        out.json({"before": before, "records": pruned.records, "retention_days": days})
    else:
        out.line(f"removed {some(pruned.records, 'audit record')} from before {before} (UTC), of all tenants")
    return 0


VERBS: Verbs = {
    "audit": (audit_arguments, audit), "audit report": (report_arguments, report), "audit verify": (verify_arguments, verify),
    "audit prune": (prune_arguments, prune),
}
