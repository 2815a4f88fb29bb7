"""What is printed: names quoted as bash reads them, JSON that survives odd bytes, tables, sizes, times, progress."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarbox_cli import output
from tarbox_cli.main import main
from tarbox_cli.output import Output
from tarbox_cli.progress import Progress
from tarbox_core.columns import table, width
from tarbox_core.errors import FsError

NAMES = st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"0"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.one_of(NAMES, st.text(min_size=1, max_size=6).map(lambda s: s.replace("\0", "0").encode("utf-8", "replace"))), min_size=1, max_size=40))
def test_bash_reads_a_quoted_name_back(names: list[bytes]) -> None:
    script = "printf '%s\\0' " + " ".join(output.quote(name) for name in names)
    assert subprocess.run(["bash", "-c", script.encode()], capture_output=True, check=True).stdout.split(b"\0")[:-1] == names


def test_quoting_is_for_odd_names_only_and_never_leaves_the_line() -> None:
    assert output.quote(b"plain-name_1.txt") == "plain-name_1.txt"
    assert output.quote("grüße".encode()) == "grüße"
    assert output.quote(b"two words") == "'two words'"
    assert output.quote(b"") == "''"
    assert output.quote(b"a\nb\x1b[31m\xff") == "$'a\\nb\\x1b[31m\\xff'"
    assert all(ch.isprintable() for ch in output.quote(bytes(range(1, 256))))


def test_json_is_one_document_of_utf8_whatever_the_names() -> None:
    stream = io.BytesIO()
    out = Output(stream, False)
    out.json(output.named("name", b"\xff\n\xc3\xa9"))
    text = stream.getvalue().decode()  # strict
    assert "é" in text
    value = json.loads(text)
    assert value["name"].encode("utf-8", "surrogateescape") == b"\xff\n\xc3\xa9"
    assert value["name_base64"] == "/wrDqQ=="
    assert output.named("name", b"ok") == {"name": "ok"}


def test_names_are_raw_in_pipes_and_quoted_on_terminals() -> None:
    assert Output(io.BytesIO(), False).name(b"a\n\xff") == b"a\n\xff"
    assert Output(io.BytesIO(), True).name(b"a\n\xff") == b"$'a\\n\\xff'"


def test_columns_are_as_wide_as_a_terminal_shows_them() -> None:
    assert [width(text) for text in ("", "plain", "grüße", "gru\u0308ße", "名前", "\udcff")] == [0, 5, 5, 5, 4, 1]
    assert table([("名前", "a"), ("plain", "b"), ("x" * 50, "c")]) == [f"名前{' ' * 36}  a", f"plain{' ' * 35}  b", f"{'x' * 50}  c"]
    stream = io.BytesIO()
    Output(stream, False).table(("NAME", "SIZE", "TITLE"), [("grüße", "5", "a"), ("名前", "12", "b")])
    assert stream.getvalue().decode().splitlines() == ["NAME   SIZE  TITLE", "grüße     5  a", "名前     12  b"]


def test_tables_line_up() -> None:
    stream = io.BytesIO()
    Output(stream, False).table(("NAME", "SIZE", "MADE", "TITLE"), [("a", "5", "2031-05-01 12:00", ""), ("bbbbbb", "1.2K", "2031-05-01 12:00", "x y")])
    assert stream.getvalue().decode().splitlines() == [
        "NAME    SIZE  MADE              TITLE", "a          5  2031-05-01 12:00", "bbbbbb  1.2K  2031-05-01 12:00  x y",
    ]  # fmt: skip


def test_sizes_and_times() -> None:
    sizes = {0: "0", 1023: "1023", 1024: "1.0K", 1536: "1.5K", 10 * 1024: "10K", 1024 * 1024 - 1: "1.0M", 3 << 30: "3.0G", 1 << 62: "4.0E"}
    assert {size: output.human(size) for size in sizes} == sizes
    assert output.iso(0) == "1970-01-01T00:00:00.000000000Z"
    assert output.iso(-1) == "1969-12-31T23:59:59.999999999Z"
    assert output.iso(1714559400_000000007) == "2024-05-01T10:30:00.000000007Z"
    assert len(output.local(-(1 << 63) + 1)) == 16


@pytest.mark.parametrize(
    ("mode", "word", "shown"),
    [
        (0o100640, "file", "-rw-r-----"),
        (0o041777, "directory", "drwxrwxrwt"),
        (0o120777, "symlink", "lrwxrwxrwx"),
        (0o010644, "fifo", "prw-r--r--"),
        (0o140755, "socket", "srwxr-xr-x"),
        (0o020600, "character device", "crw-------"),
        (0o060600, "block device", "brw-------"),
    ],
)
def test_modes_are_what_the_core_stores_whatever_the_system_calls_them(mode: int, word: str, shown: str) -> None:
    assert (output.kind(mode), output.symbolic(mode)) == (word, shown)


def test_errors_are_one_line_whatever_is_in_them() -> None:
    assert output.describe(FsError(2, b"/a\xff")) == "/a\\xff: no such file or directory"
    assert output.describe(FileNotFoundError(2, "No such file or directory", "/x")) == "/x: no such file or directory"
    assert output.describe(OSError(28, "No space left on device")) == "standard output: no space left on device"


def test_complaints_escape_what_would_break_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain("a\nb\x1b[2J\udcff")
    assert capsys.readouterr().err == "tarbox: a\\nb\\x1b[2J\\udcff\n"


def test_progress_is_silent_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for _ in range(3):
            progress.add(1 << 20, 1)
    assert (progress.files, progress.bytes) == (3, 3 << 20)
    assert capsys.readouterr().err == ""


def test_progress_draws_one_line_and_takes_it_away(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(shown=True) as progress:
        progress.total = 2 << 20
        progress.add(1 << 20, 1)
    err = capsys.readouterr().err
    assert "50%" in err and "\n" not in err
    assert err.endswith("\r\x1b[K")


def test_a_fault_of_ours_shows_no_traceback_unless_asked(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("tarbox_cli.main._dispatch", broken)
    monkeypatch.delenv("TARBOX_DEBUG", raising=False)
    assert main(["ls"]) == 1
    err = capfdbinary.readouterr().err.decode()
    assert err.count("\n") == 1 and "ZeroDivisionError: oh" in err
    monkeypatch.setenv("TARBOX_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["ls"])


def test_interruption_is_one_line_and_130(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tarbox_cli.main._dispatch", interrupted)
    assert main(["ls"]) == 130
    assert capfdbinary.readouterr().err == b"tarbox: interrupted\n"


def test_a_closed_pipe_is_quiet_and_a_full_disk_is_told() -> None:
    program = [sys.executable, "-m", "tarbox_cli", "completion", "bash"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait()
    assert process.returncode == 141
    with open("/dev/full", "wb") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"tarbox: standard output: no space left on device\n")


def test_starting_imports_no_driver() -> None:
    """--help and usage errors cost what argparse costs."""
    script = (
        "import sys; from tarbox_cli.main import main; main(['--help']); main(['ls', '--help']); "
        "print([m for m in ('pg8000', 'tarbox_core.drivers.sync', 'tomllib', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == b"[]"
