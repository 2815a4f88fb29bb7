"""How mounts begin and end: as a daemon, by umount, by signals, by kill -9; as an ordinary user; and every refusal's line."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tarbox_fuse
from tarbox_fuse import MountError, mount
from tests.fuse.helpers import ROOT, lazy_unmount, mounted, wait_for
from tests.fuse.memory import TREE, MemoryMount

NOBODY = 65534


@pytest.fixture
def folder(mountable: None, tmp_path: Path) -> Iterator[Path]:
    """An empty directory, not mounted again when the test is over. Its name is one that mountinfo must escape."""
    path = tmp_path / "a mnt\\040"
    path.mkdir()
    yield path
    while mounted_here(path):
        lazy_unmount_any(path)


def mounted_here(path: Path) -> bool:
    return mount.mounted_at(str(path)) is not None


def lazy_unmount_any(path: Path) -> None:
    subprocess.run(["umount", "-l", "--", path] if ROOT else ["fusermount3", "-uz", "--", path], check=False, timeout=60)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., MemoryMount]]:
    """Mount on `folder` in the foreground, with options."""
    made = []

    def start(*options: str) -> MemoryMount:
        made.append(MemoryMount(folder, *options))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.close()


def ended(one: MemoryMount) -> int:
    assert one.daemon is not None
    code = one.daemon.wait(60)
    one.daemon = None
    return code


def watchers(path: Path) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"tarbox-watcher" in line and os.fsencode(path) in line:
            found.append(int(pid))
    return found


def the_watcher(path: Path) -> int:
    """Its command line shows a moment after it was started."""
    wait_for(lambda: bool(watchers(path)), 60, lambda: "there is no watcher")
    (pid,) = watchers(path)
    return pid


def gone(path: Path) -> None:
    wait_for(lambda: not mounted_here(path), 60, lambda: f"{path} is still mounted")
    wait_for(lambda: not watchers(path), 60, lambda: f"watchers are left: {watchers(path)}")


@pytest.mark.parametrize("transport", ["kernel", "libfuse"])
def test_umount_waits_for_the_daemon(start: Callable[..., MemoryMount], folder: Path, transport: str) -> None:
    one = start("--transport", transport)
    the_watcher(folder)
    (folder / "f").touch()
    tarbox_fuse.unmount(str(folder))
    assert ended(one) == 0
    assert one.traceback() == ""
    gone(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_a_mount(start: Callable[..., MemoryMount], folder: Path, number: signal.Signals) -> None:
    one = start()
    (folder / "f").touch()
    assert one.daemon is not None
    one.daemon.send_signal(number)
    assert ended(one) == 0
    gone(folder)


@pytest.mark.parametrize("threads", [[], ["--delay", "0.001"]])
def test_a_signal_ends_a_mount_that_is_in_use(start: Callable[..., MemoryMount], folder: Path, threads: list[str]) -> None:
    one = start(*threads)
    fd = os.open(folder / "f", os.O_WRONLY | os.O_CREAT)
    try:
        os.write(fd, b"x")
        assert one.daemon is not None
        one.daemon.terminate()
        assert ended(one) == 0
        gone(folder)
        with pytest.raises(OSError, check=lambda error: error.errno == errno.ENOTCONN):
            os.write(fd, b"y")
    finally:
        with contextlib.suppress(OSError):  # ENOTCONN again, from the flush of close(2)
            os.close(fd)
    assert "detaching" in one.log.read_text()


@pytest.mark.parametrize("transport", ["kernel", "libfuse"])
def test_a_killed_daemon_leaves_no_dead_mount(start: Callable[..., MemoryMount], folder: Path, transport: str) -> None:
    one = start("--transport", transport)
    (folder / "f").touch()
    watcher = the_watcher(folder)
    os.kill(watcher, signal.SIGHUP)  # the terminal closes
    os.kill(watcher, signal.SIGTERM)
    one.kill()
    gone(folder)
    assert os.listdir(folder) == []


def test_the_watcher_leaves_a_newer_mount_alone(start: Callable[..., MemoryMount], folder: Path) -> None:
    old = start()
    watcher = the_watcher(folder)
    os.kill(watcher, signal.SIGSTOP)
    try:
        old.kill()
        lazy_unmount_any(folder)
        new = start()
    finally:
        os.kill(watcher, signal.SIGCONT)
    wait_for(lambda: watcher not in watchers(folder), 60, lambda: "the old watcher stays")
    (folder / "f").touch()
    new.stop()
    gone(folder)


def test_in_the_background(folder: Path, tmp_path: Path) -> None:
    """The command returns when the mount answers; what it leaves holds neither its output nor its session."""
    one = MemoryMount(folder, "--background", "--log", str(tmp_path / "logs/daemon.log"))
    try:
        os.mkdir(tmp_path / "logs")
        done = subprocess.run(one.command(), env={**os.environ, **one.env}, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"ready\n", b"")
        (folder / "f").write_text("text")
        pid = int(os.getxattr(folder, tarbox_fuse.dispatch.DAEMON_XATTR).split()[0])
        assert os.getsid(pid) != os.getsid(0) and os.readlink(f"/proc/{pid}/cwd") == "/"
        tarbox_fuse.unmount(str(folder))
        assert not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        assert "unmounted tarbox:mem" in (tmp_path / "logs/daemon.log").read_text()
        gone(folder)
    finally:
        one.close()


def test_the_default_log_is_in_the_state_directory(folder: Path, tmp_path: Path) -> None:
    one = MemoryMount(folder, "--background")
    try:
        env = {**os.environ, **one.env, "XDG_STATE_HOME": str(tmp_path / "state")}
        subprocess.run(one.command(), env=env, stdout=subprocess.DEVNULL, timeout=60, check=True)
        tarbox_fuse.unmount(str(folder))
        assert "mounted tarbox:mem" in (tmp_path / "state/tarbox/mount-mem.log").read_text()
    finally:
        one.close()


@pytest.mark.parametrize("background", [[], ["--background"]])
def test_a_failure_to_open_is_one_line(folder: Path, tmp_path: Path, background: list[str]) -> None:
    one = MemoryMount(folder, "--fail", "no such tenant: mem", *background, "--log", str(tmp_path / "log"))
    try:
        done = subprocess.run(one.command(), env={**os.environ, **one.env}, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "tarbox: no such tenant: mem\n")
        assert not mounted_here(folder)
    finally:
        one.close()


def test_a_busy_mount_names_who_holds_it(start: Callable[..., MemoryMount], folder: Path) -> None:
    one = start()
    program = "import sys; print(flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", program], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"\n"
        with pytest.raises(MountError, match=rf"busy: in use by python.*\({holder.pid}\)"):
            tarbox_fuse.unmount(str(folder))
        tarbox_fuse.unmount(str(folder), lazy=True)
        assert not mounted_here(folder)
        assert one.daemon is not None and one.daemon.poll() is None  # the holder goes on
        assert holder.stdin is not None
        holder.stdin.close()
    assert ended(one) == 0
    gone(folder)


def test_what_is_no_mount_of_ours_is_not_unmounted(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("/proc")):
        with pytest.raises(MountError, match="not a mount of tarbox"):
            tarbox_fuse.unmount(str(path))


def test_a_mount_is_found_through_a_symbolic_link(start: Callable[..., MemoryMount], folder: Path, tmp_path: Path) -> None:
    one = start()
    (tmp_path / "link").symlink_to(folder)
    tarbox_fuse.unmount(str(tmp_path / "link"))
    assert ended(one) == 0


# --- refusals


def test_mount_points_that_cannot_be_used(start: Callable[..., MemoryMount], folder: Path, tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(MountError) as caught:
            mount.check_mountpoint(str(path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    (tmp_path / "file").touch()
    assert "does not exist" in refusal(tmp_path / "missing")
    assert "not a directory" in refusal(tmp_path / "file")
    assert "cannot be used: Not a directory" in refusal(tmp_path / "file" / "below")
    assert "not empty" in refusal(tmp_path)
    start()
    assert "already a mount point" in refusal(folder)
    (tmp_path / "link").symlink_to(folder)
    assert refusal(tmp_path / "link").endswith(f"already a mount point; unmount it first with: tarbox umount {tmp_path / 'link'}")
    assert refusal(Path("/proc")).endswith("already a mount point; unmount it first with: umount /proc")


def test_missing_pieces_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refusal(allow_other: bool = False) -> str:
        with pytest.raises(MountError) as caught:
            mount.check_device(allow_other)
        return str(caught.value)

    monkeypatch.setattr(mount, "DEVICE", str(tmp_path / "fuse"))
    assert "modprobe fuse" in refusal() and "--device" in refusal()
    (tmp_path / "fuse").touch()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install fuse3" in refusal()
    (tmp_path / "fusermount3").touch(0o755)
    monkeypatch.setattr(mount, "_FUSE_CONF", str(tmp_path / "fuse.conf"))
    (tmp_path / "fuse.conf").write_text("#user_allow_other\n")
    assert "user_allow_other" in refusal(allow_other=True)
    mount.check_device(False)
    (tmp_path / "fuse.conf").write_text("mount_max = 5\n  user_allow_other # for us\n")
    mount.check_device(True)


# --- an ordinary user


def _users_python() -> str | None:
    """An interpreter that a user other than this one can run: the one of this run may lie in root's home."""
    for python in (sys.executable, "/usr/bin/python3"):
        check = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(check, user=NOBODY, group=NOBODY, cwd="/", capture_output=True, check=False).returncode == 0:
                return python
        except OSError:
            continue
    return None


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else; as an ordinary user every test here is this one")
def test_as_an_ordinary_user(mountable: None) -> None:
    python = _users_python()
    if python is None or shutil.which("fusermount3") is None:
        pytest.skip("no python3.11 that an ordinary user may run, or no fusermount3")
    folder = Path(tempfile.mkdtemp(prefix="tarbox-user-"))
    (folder / "mnt").mkdir()
    for path in (folder, folder / "mnt"):
        os.chown(path, NOBODY, NOBODY)
    sources = folder / "src"  # the checkout may lie where the user cannot go
    for name in ("tarbox_core", "frontends/fuse/tarbox_fuse", "tests/fuse"):
        shutil.copytree(TREE / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))

    def user(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, text=True, timeout=100, check=False,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{sources}:{sources}/frontends/fuse", "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)},
        )  # fmt: skip

    def mount_it(*options: str) -> subprocess.CompletedProcess[str]:
        return user(python, "-m", "tests.fuse.memory_mount", str(folder / "mnt"), "--background", *options)

    device = os.stat("/dev/fuse").st_mode
    try:
        os.chmod("/dev/fuse", 0o666)  # as udev has it; fusermount3 opens it as the user
        done = mount_it("--allow-other")
        assert done.returncode == 1 and "user_allow_other" in done.stderr
        done = mount_it()
        assert done.returncode == 0, done.stderr
        assert user("sh", "-c", f"cd {folder}/mnt && echo text > f && cat f && stat -c %u f").stdout == f"text\n{NOBODY}\n"
        options = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line)
        assert "nosuid" in options and "nodev" in options and " fuse.tarbox tarbox:mem " in options
        with pytest.raises(PermissionError):
            os.listdir(folder / "mnt")  # not even root, without --allow-other
        unmount = user(python, "-c", f"import tarbox_fuse; tarbox_fuse.unmount('{folder}/mnt')")
        assert (unmount.returncode, unmount.stderr) == (0, "")
        assert "unmounted tarbox:mem" in (folder / ".local/state/tarbox/mount-mem.log").read_text()

        done = mount_it("--read-only")
        assert done.returncode == 0
        asked = user(python, "-c", f"import os; print(os.getxattr('{folder}/mnt', 'tarbox.daemon').decode())")
        os.kill(int(asked.stdout.split()[0]), signal.SIGKILL)
        wait_for(lambda: not mounted(folder / "mnt"), 60, lambda: "the dead mount is still there")
    finally:
        os.chmod("/dev/fuse", device)
        lazy_unmount(folder / "mnt")
        wait_for(lambda: not watchers(folder / "mnt"), 60, lambda: "a watcher is left")
        shutil.rmtree(folder)
