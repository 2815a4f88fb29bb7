"""`tarbox serve` as a real process, and clients on real sockets: programs, and what a browser would send."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tarbox_core import frames
from tarbox_core.drivers.remote import RemoteDriver
from tests.pg.cli import Tarbox

# The command, with a page of the test's own, and what a test has otherwise in it.
COMMAND = """
import os
import sys
from pathlib import Path
from tarbox_browser import running
running.serve.__kwdefaults__["folder"] = Path(sys.argv[1])
exec(os.environ.get("OTHERWISE", ""))
from tarbox_cli.main import main
sys.exit(main(sys.argv[2:]))
"""


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A running server. `secret`: what its link holds."""

    def __init__(self, process: subprocess.Popen[bytes], told: dict[str, Any]) -> None:
        self.process = process
        self.told = told
        self.origin: str = told["origin"]
        parts = urlsplit(self.origin)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self.secret = urlsplit(told["url"]).fragment.removeprefix("token=")

    def ask(self, method: str, path: str, body: Any = None, **headers: str | None) -> Answer:
        """A request, as a page of this origin sends it; a header that is None is left out."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        usual: dict[str, str | None] = {"Host": f"{self.host}:{self.port}", "Accept-Encoding": "identity"}
        data = None
        if method == "POST":
            usual |= {"Origin": self.origin, "Content-Type": "application/json"}
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = usual | {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def login(self, secret: str | None = None) -> str:
        """A session for a secret, or for the link: the cookie, as a browser sends it back."""
        answer = self.ask("POST", "/login", {"token": self.secret if secret is None else secret})
        assert answer.status == 200, answer
        return answer.headers["set-cookie"].partition(";")[0]

    def socket(
        self, tenant: str, *, cookie: str | None = None, token: str | None = None, origin: str | None = "", host: str = "", query: str = "",
        door: str = "gateway",
    ) -> ClientConnection:
        """A socket to the gateway, or to another door, as a page has with a cookie and a program with a token. InvalidStatus where it is refused."""
        headers = {}
        if cookie is not None:
            headers["Cookie"] = cookie
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        shown: Any = self.origin if origin == "" and token is None else origin or None
        url = f"ws://{host or f'{self.host}:{self.port}'}/{door}/{tenant}{query}"
        stream = socket.create_connection((self.host, self.port), 30)
        # Entered here, and closed by whoever uses it.
        return connect(url, sock=stream, additional_headers=headers, origin=shown, compression=None, max_size=None, user_agent_header=None).__enter__()

    def memory(self) -> int:
        """Bytes that are resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) << 10

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """The status and what it said on standard error."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said.decode()


def page(folder: Path) -> Path:
    """What a build leaves behind, in small."""
    static = folder / "static"
    if not static.exists():
        (static / "assets").mkdir(parents=True)
        (static / "index.html").write_text("<!doctype html><title>Tarbox</title>")
        (static / "assets" / "page-0123abcd.js").write_text("export {}\n" * 100)
        (static / "assets" / "page-0123abcd.js.br").write_bytes(b"as brotli")
        (static / "assets" / "page-0123abcd.js.gz").write_bytes(b"as gzip")
        (static / "manifest.json").write_text("{}")
        (folder / "outside.txt").write_text("not served")
    return static


@contextmanager
def serving(tarbox: Tarbox, *words: str, env: dict[str, str] | None = None, port: int = 0) -> Iterator[Server]:
    """A server for the command's tenant; killed at the end where it still runs."""
    line = command(tarbox, "serve", "--json", "--port", str(port), *words)
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tarbox.folder, env=environment(tarbox, env or {}))
    assert process.stdout is not None and process.stderr is not None
    try:
        lines = b""
        while not lines.endswith(b"}\n"):
            said = process.stdout.readline()
            assert said, process.stderr.read().decode()
            lines += said
        yield Server(process, json.loads(lines))
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        for stream in (process.stdout, process.stderr):
            stream.close()


def command(tarbox: Tarbox, *words: str) -> list[str]:
    return [sys.executable, "-c", COMMAND, str(page(tarbox.folder)), *words]


def environment(tarbox: Tarbox, more: dict[str, str]) -> dict[str, str]:
    """The process finds the packages of this checkout."""
    return {**tarbox.env, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **more}


class Client:
    """A client of the gateway over a socket: requests from any thread, answers by their numbers, what was told besides in `changed`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.changed: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self._heard = threading.Condition()
        self._answers: dict[int, bytes] = {}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            for message in self.socket:
                assert isinstance(message, bytes)
                with self._heard:
                    if frames.kind_of(message) == frames.CHANGED:
                        self.changed.append(frames.read_changed(message))
                    else:
                        self._answers[frames.number_of(message)] = message
                    self._heard.notify_all()
        except ConnectionClosed:
            pass
        with self._heard:
            self.closed = self.socket.close_code or 1006, self.socket.close_reason or ""
            self._heard.notify_all()

    def exchange(self, frame: bytes) -> bytes:
        try:
            self.socket.send(frame)
        except ConnectionClosed:
            raise EOFError("the socket is closed") from None
        number = frames.number_of(frame)
        with self._heard:
            assert self._heard.wait_for(lambda: number in self._answers or self.closed is not None, 30)
            if number not in self._answers:
                raise EOFError("the socket was closed")
            return self._answers.pop(number)

    def wait(self, condition: Callable[[Client], bool], timeout: float = 10) -> None:
        with self._heard:
            assert self._heard.wait_for(lambda: condition(self), timeout), (self.changed, self.closed)

    def driver(self) -> RemoteDriver:
        return RemoteDriver(self.exchange)

    def close(self) -> None:
        self.socket.close()
        self._thread.join()
