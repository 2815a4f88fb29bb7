"""From "mount this tenant there" to its end: the daemon, its signals, its log; and the way back, unmount.

What the command line calls is `serve_mount` and `unmount`. The database is opened in the daemon, through a factory, so
that no thread and no connection is ever carried across a fork.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, Literal, NoReturn

from tarbox_core import sealing
from tarbox_core.check import reap
from tarbox_core.drivers.base import Driver
from tarbox_core.errors import TarboxError
from tarbox_core.filesystem import Filesystem
from tarbox_core.layer import MAIN
from tarbox_fuse import mount as mounting
from tarbox_fuse.chores import Chores
from tarbox_fuse.codec import DEFAULT_TIMEOUTS, LONG_TIMEOUTS, Timeouts
from tarbox_fuse.coherence import Follower
from tarbox_fuse.dispatch import DAEMON_XATTR, Dispatcher, Options, daemon_identity
from tarbox_fuse.kernel import Kernel
from tarbox_fuse.mount import FSTYPE, MountError
from tarbox_fuse.session import Session
from tarbox_fuse.supervisor import Supervisor
from tarbox_fuse.verbs import Verbs

if TYPE_CHECKING:
    from tarbox_core.drivers.presence import Presence

log = logging.getLogger("tarbox.fuse")

PresenceOf = Callable[[Filesystem], "Presence"]
OpenFs = Callable[[], tuple[Driver, Filesystem]]
Transport = Literal["kernel", "libfuse"]

_TICK: Final = 1.0  # seconds between two looks at what is due to be flushed
_GRACE: Final = 60.0  # seconds for requests in work when the mount ends, and for a daemon to flush
_SEAL_EVERY: Final = 60.0  # seconds
_PACK_EVERY: Final = 1.0
_PACK_FOR: Final = 0.1  # of these, or as long as one step takes
_PACK_BYTES: Final = 1 << 20  # of content in a step
_UPKEEP_EVERY: Final = 6 * 3600.0
_DUE_EVERY: Final = 60.0  # between two looks whether an automatic checkpoint is due, at most
_READ_AHEAD: Final = 4 << 20  # several requests at once, each answered over a connection of its own
_OK: Final = b"ok"


def default_log_file(tenant: str) -> str:
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "tarbox", f"mount-{tenant}.log")


def serve_mount(
    mountpoint: str, open_fs: OpenFs, *, tenant: str, read_only: bool = False, allow_other: bool = False,
    foreground: bool = False, transport: Transport = "kernel", log_file: str | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS, options: Options | None = None, ready: Callable[[], None] | None = None,
    presence: PresenceOf | None = None, upkeep: Callable[[], None] | None = None, checkpoint_every: float | None = None,
) -> None:  # fmt: skip
    """Mount a tenant. TarboxError, with one line for the user, when that fails.

    In the foreground this returns when the mount has ended and all is flushed; otherwise as soon as a daemon answers at
    the mount point. `open_fs` runs in the process that serves and gives what it closes at the end: a Filesystem made
    with enforce=False, and its driver. `presence` makes the mount seen by other doors. `upkeep`, called every few hours,
    does what a tenant's own role may not do. `checkpoint_every`: seconds between two automatic checkpoints. `ready` is
    called once the mount answers. `options` overrides `timeouts`. The log goes to standard error in the foreground, else
    to `log_file`, by default in the user's state directory.
    """
    where = mounting.check_mountpoint(mountpoint)
    mounting.check_device(allow_other)
    serve = _Serve(where, open_fs, tenant, read_only, allow_other, transport, options or Options(timeouts), presence, upkeep, checkpoint_every)
    if foreground:
        _log_to(log_file)
        serve.run(ready or (lambda: None))
        return
    path = log_file or default_log_file(tenant)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        log_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MountError(f"{path}: the log cannot be written: {error.strerror}") from None
    _in_background(serve, log_fd, path)
    if ready is not None:
        ready()


def _log_to(path: str | None) -> None:
    handler: logging.Handler = logging.FileHandler(path) if path else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s tarbox[%(process)d] %(levelname)s %(message)s"))
    root = logging.getLogger("tarbox")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False


def _in_background(serve: _Serve, log_fd: int, log_path: str) -> None:
    """Run the mount in a daemon of its own; return when it answers, raise what it says when it does not."""
    sys.stdout.flush()
    sys.stderr.flush()
    answer, report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answer)
        _become_daemon(serve, log_fd, report)
    os.close(report)
    os.close(log_fd)
    os.waitpid(child, 0)
    with open(answer, "rb") as pipe:
        said = pipe.read()
    if said != _OK:
        raise MountError(said.decode(errors="replace") or f"the mount's daemon ended without a word; see {log_path}")


def _become_daemon(serve: _Serve, log_fd: int, report: int) -> NoReturn:
    """In a forked child: leave the terminal, fork again so that nobody need wait for us, serve, exit."""
    status = 1
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for target, source in ((0, nothing), (1, log_fd), (2, log_fd)):
            os.dup2(source, target)
        os.close(nothing)
        os.close(log_fd)
        _log_to(None)

        def ready() -> None:
            os.write(report, _OK)
            os.close(report)

        serve.run(ready)
        status = 0
    except TarboxError as error:
        log.error("%s", error)
        _complain(report, str(error))
    except BaseException as error:
        log.exception("the mount's daemon failed")
        _complain(report, f"the mount's daemon failed: {type(error).__name__}: {error}")
    finally:
        logging.shutdown()
        os._exit(status)


def _complain(report: int, words: str) -> None:
    try:
        os.write(report, words.encode())
    except OSError:
        return  # already reported as ready, so the log has to do


class _Wake:
    """Something a signal handler and any thread may set, and the main thread can wait for with a timeout.

    Never closed: a thread may set it when all else is over.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def set(self) -> None:
        try:
            os.write(self._writing, b"!")
        except BlockingIOError:
            pass  # long set

    def wait(self, seconds: float) -> bool:
        return bool(select.select([self._reading], [], [], seconds)[0])


class _Serve:
    """One mount, from the opening of its database to the last flush."""

    def __init__(
        self, where: str, open_fs: OpenFs, tenant: str, read_only: bool, allow_other: bool, transport: Transport, options: Options,
        presence: PresenceOf | None, upkeep: Callable[[], None] | None, checkpoint_every: float | None,
    ) -> None:  # fmt: skip
        self._where = where
        self._open_fs = open_fs
        self._tenant = tenant
        self._source = ""
        self._read_only = read_only
        self._allow_other = allow_other
        self._transport = transport
        self._options = options
        self._presence_of = presence
        self._upkeep = upkeep
        self._checkpoint_every = checkpoint_every
        self._presence: Presence | None = None

    def run(self, ready: Callable[[], None]) -> None:
        driver, fs = self._open_fs()
        try:
            if self._presence_of is not None:
                self._presence = self._presence_of(fs)
                self._presence.enter()
                driver.run(fs.refresh)  # before that, nobody had to tell us of a move
                driver.run(lambda: reap(fs))
            self._source = _source(self._tenant, fs, driver)
            if self._transport == "kernel":
                self._run_kernel(fs, driver, ready)
            else:
                self._run_libfuse(fs, driver, ready)
            if self._presence is not None:
                _reap_at_the_end(self._presence, fs, driver)
        finally:
            if self._presence is not None:
                self._presence.leave()
            driver.close()

    def _run_kernel(self, fs: Filesystem, driver: Driver, ready: Callable[[], None]) -> None:
        wake = _Wake()
        answered = threading.Event()
        previous = _on_signals(wake.set)
        try:
            fd = mounting.mount(self._where, self._source, read_only=self._read_only, allow_other=self._allow_other)
            session = Session(fd, wake.set, max_pages=self._options.max_pages)
            kernel = Kernel(fd)
            verbs = Verbs(fs, driver, time.time_ns, before_wait=session.before_wait, gate=session.gate, kernel=kernel, presence=self._presence)
            follower = None if self._presence is None else Follower(fs, self._presence, verbs.mover, kernel)
            options = self._options
            if follower is not None and options.timeouts == DEFAULT_TIMEOUTS:
                options = options._replace(timeouts=LONG_TIMEOUTS)
            supervisor: Supervisor | None = None
            try:
                supervisor = self._supervise()
                session.start(Dispatcher(verbs, options, answered.set))
                if follower is not None:
                    follower.start()
                while not answered.wait(_TICK):
                    if wake.wait(0):
                        raise MountError(f"{self._where}: unmounted before the kernel had asked for anything")
                log.info("mounted %s at %s", self._source, self._where)
                ready()
                chores = self._chores(fs, verbs)
                while not wake.wait(_TICK):
                    verbs.tick()
                    chores.look()
            finally:
                if follower is not None:
                    follower.stop()
                # In this order: nothing new comes in, what is in work is answered, all of it is stored.
                if not session.ended.is_set():
                    self._unmount()
                if not session.stop(_GRACE):
                    log.error("requests are still in work; ending all the same")
                session.close()
                if supervisor is not None and supervisor.unmounted():
                    supervisor.dismiss()
                verbs.finish()
            log.info("unmounted %s from %s", self._source, self._where)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _run_libfuse(self, fs: Filesystem, driver: Driver, ready: Callable[[], None]) -> None:
        from tarbox_fuse import libfuse

        verbs = Verbs(fs, driver, time.time_ns, presence=self._presence)
        chores = self._chores(fs, verbs)
        over = threading.Event()
        supervisors: list[Supervisor] = []
        follower = None if self._presence is None else Follower(fs, self._presence, verbs.mover, None)

        def answered() -> None:
            supervisors.append(self._supervise())
            threading.Thread(target=tick, name="tick", daemon=True).start()
            if follower is not None:
                follower.start()
            log.info("mounted %s at %s through libfuse", self._source, self._where)
            ready()

        def tick() -> None:
            while not over.wait(_TICK):
                verbs.tick()
                chores.look()

        libfuse.serve(verbs, self._where, self._source, self._options.timeouts, self._read_only, self._allow_other, answered)
        over.set()
        if follower is not None:
            follower.stop()
        verbs.finish()
        for supervisor in supervisors:
            supervisor.dismiss()
        log.info("unmounted %s from %s", self._source, self._where)

    def _chores(self, fs: Filesystem, verbs: Verbs) -> Chores:
        chores = Chores(time.monotonic)
        chores.add("sealing the audit trail", _SEAL_EVERY, lambda: verbs.run(lambda: sealing.seal(fs.session)))
        if not self._read_only:
            packer = fs.packer()

            def pack() -> bool:
                end = time.monotonic() + _PACK_FOR
                while more := verbs.run(lambda: packer.look(_PACK_BYTES)):
                    verbs.run(packer.store)
                    if time.monotonic() > end:
                        break
                return more

            chores.add("packing old text", _PACK_EVERY, pack)
        upkeep = self._upkeep
        if upkeep is not None:

            def work() -> bool:
                upkeep()
                return False

            chores.add("the upkeep of the database", _UPKEEP_EVERY, work)
        every = self._checkpoint_every
        if every is not None and not self._read_only:

            def checkpoint() -> bool:
                verbs.mover.checkpoint_when_due(int(every * 1e9), time.time_ns())
                return False

            chores.add("the automatic checkpoint", min(every / 10, _DUE_EVERY), checkpoint)
        return chores

    def _supervise(self) -> Supervisor:
        mounted = mounting.mounted_at(self._where)
        if mounted is None:
            raise MountError(f"{self._where}: the mount disappeared")
        mounting.set_read_ahead(mounted.device, _READ_AHEAD)
        return Supervisor(self._where, mounted.device)

    def _unmount(self) -> None:
        """After a signal: take the mount away, or out of sight where it is in use."""
        try:
            mounting.unmount(self._where)
        except OSError as error:
            log.warning("%s: %s; detaching it", self._where, error.strerror)
            try:
                mounting.unmount(self._where, lazy=True)
            except OSError as again:
                log.error("%s: %s", self._where, again.strerror)


def _source(tenant: str, fs: Filesystem, driver: Driver) -> str:
    """What the table of mounts shows: the tenant, and its sealed layer or the branch that is not its main one."""
    session = fs.session
    if session.view:
        layer = driver.run(fs.current)
        if layer.sealed_at is None:
            raise MountError(f"layer {layer.short} is still written to by branch {layer.branch}: mount the branch, or make a checkpoint first")
        return f"tarbox:{tenant}@{layer.short}"
    return f"tarbox:{tenant}" if session.head == MAIN else f"tarbox:{tenant}@{session.head}"


def _reap_at_the_end(presence: Presence, fs: Filesystem, driver: Driver) -> None:
    """Remove what other doors unlinked while this one might have had it open. What is left, the next mount or gc removes."""
    try:
        presence.look()
        driver.run(lambda: reap(fs))
    except TarboxError as error:
        log.warning("what was unlinked meanwhile is left for gc: %s", error)


def _on_signals(act: Callable[[], None]) -> dict[signal.Signals, signal._HANDLER]:
    """Let SIGINT, SIGTERM and SIGHUP call `act`; the handlers that were there. Only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        return {}

    def handler(number: int, frame: FrameType | None) -> None:
        act()

    return {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def unmount(mountpoint: str, *, lazy: bool = False) -> None:
    """Unmount, and wait until the daemon has flushed all and ended. MountError when it is no mount of ours, or in use."""
    where = mounting.canonical(mountpoint)
    mounted = mounting.mounted_at(where)
    if mounted is None and os.path.exists(mountpoint):
        where = os.path.realpath(mountpoint)
        mounted = mounting.mounted_at(where)
    if mounted is None or mounted.fstype != FSTYPE:
        raise MountError(f"{mountpoint}: not a mount of tarbox")
    daemon = _open_daemon(where)
    try:
        try:
            mounting.unmount(where, lazy=lazy)
        except OSError as error:
            if error.errno == errno.EBUSY:
                who = ", ".join(mounting.holders(where)) or "a process that only root can see"
                raise MountError(f"{mountpoint}: busy: in use by {who}; close that, or use --lazy") from None
            raise MountError(f"{mountpoint}: cannot be unmounted: {error.strerror}") from None
        # A lazy unmount ends the daemon only when the last file is closed: nothing to wait for.
        if daemon is not None and not lazy and not select.select([daemon], [], [], _GRACE)[0]:
            raise MountError(f"{mountpoint}: unmounted, but its daemon is still flushing; its log tells why")
    finally:
        if daemon is not None:
            os.close(daemon)


def _open_daemon(where: str) -> int | None:
    """A descriptor that becomes readable when the daemon behind a mount ends; None when it cannot be known."""
    try:
        identity = os.getxattr(where, DAEMON_XATTR)
        pid = int(identity.split()[0])
        fd = os.pidfd_open(pid)
    except OSError:
        return None  # dead, another user's, or in another container
    try:
        if daemon_identity(pid) == identity:
            return fd
    except OSError:
        return fd  # just ended: the descriptor is readable at once
    os.close(fd)
    return None
