"""A guest's door beside others: each hears what another changes, and a head moves with everything stored."""

from __future__ import annotations

import signal
import subprocess
import time

from tarbox_core.drivers import presence
from tests.pg.cli import Tarbox
from tests.wasi.helpers import Runner, finish, guest, start, wasi_run


def ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"


def test_another_doors_layer_holds_what_the_guest_had_not_stored(tarbox: Tarbox) -> None:
    process = start(tarbox, guest("keep"))
    ready(process)
    tarbox("layer", "create", "while it runs")
    assert tarbox("cat", "--layer", "while it runs", "/kept.txt") == b"unflushed"
    process.send_signal(signal.SIGINT)
    assert finish(process).status == 130


def test_another_doors_file_is_seen(tarbox: Tarbox) -> None:
    process = start(tarbox, guest("watch"))
    ready(process)
    tarbox("touch", "/sign.txt")
    assert finish(process) == (0, b"", "")


def test_where_another_door_moves_the_head_the_guest_goes(tarbox: Tarbox) -> None:
    tarbox("touch", "/sign.txt")
    tarbox("layer", "create", "signed")
    tarbox("rm", "/sign.txt")
    process = start(tarbox, guest("watch"))
    ready(process)
    tarbox("layer", "switch", "signed")
    assert finish(process) == (0, b"", "")


def test_a_guest_makes_a_layer_of_all_it_wrote(tarbox: Tarbox) -> None:
    assert wasi_run(tarbox, guest("layer")) == (0, b"", "")
    assert tarbox("cat", "--layer", "by guest", "/kept.txt") == b"unflushed"


def test_a_guest_makes_a_layer_beside_another_guest(tarbox: Tarbox) -> None:
    beside = start(tarbox, guest("watch"))
    ready(beside)
    assert wasi_run(tarbox, guest("layer")) == (0, b"", "")
    assert tarbox("cat", "--layer", "by guest", "/kept.txt") == b"unflushed"
    tarbox("touch", "/sign.txt")
    assert finish(beside) == (0, b"", "")


def test_a_run_is_a_door_as_long_as_it_lasts(runner: Runner) -> None:
    session = runner.tenant.session()
    with runner.door() as door, door.guest():
        assert presence.doors(session.driver, runner.tenant.info.id) == 1
    until = time.monotonic() + 10
    while presence.doors(session.driver, runner.tenant.info.id):  # the server notices that a connection was closed
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_is_dirty_is_stored_within_seconds(tarbox: Tarbox) -> None:
    process = start(tarbox, guest("keep"))
    ready(process)
    began = time.monotonic()
    while b"kept.txt" not in tarbox.names() or tarbox("cat", "/kept.txt") != b"unflushed":
        assert time.monotonic() - began < 10
        time.sleep(0.1)
    process.kill()
    process.communicate(timeout=10)
    assert tarbox("cat", "/kept.txt") == b"unflushed"
