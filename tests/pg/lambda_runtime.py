"""AWS Lambda's runtime interface, as far as awslambdaric asks for it: hands it events, and takes what the handler answers.

Described in "Using the Lambda runtime API for custom runtimes" of AWS's Lambda developer guide.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

API = "/2018-06-01/runtime/"


class LambdaRuntime:
    """Listens on `address`. `invoke` gives an event to the runtime that asks for one, and what came of it."""

    def __init__(self) -> None:
        self._events: queue.Queue[tuple[str, Any] | None] = queue.Queue()
        self._answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                assert self.path == f"{API}invocation/next"
                event = outer._events.get()
                if event is None:
                    self.close_connection = True
                    return
                deadline = str(int((time.time() + 60) * 1000))
                self._reply(200, json.dumps(event[1]).encode(), {
                    "Lambda-Runtime-Aws-Request-Id": event[0], "Lambda-Runtime-Deadline-Ms": deadline,
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:local:0:function:notes", "Lambda-Runtime-Trace-Id": "Root=1-0-0",
                })  # fmt: skip

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer._answers.put((self.path.removeprefix(API), json.loads(body)))
                self._reply(202, b'{"status":"OK"}', {})

            def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Nothing: the tests tell."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def invoke(self, event: Any) -> Any:
        """The handler's answer; AssertionError with the error that it, or the start of the runtime, ended in."""
        ident = str(uuid.uuid4())
        self._events.put((ident, event))
        path, answer = self._answers.get(timeout=60)
        assert path == f"invocation/{ident}/response", (path, answer)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._events.put(None)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(20)
