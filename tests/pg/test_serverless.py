"""The examples of functions, run by what runs them at their providers: awslambdaric and functions-framework."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import PgServer
from tests.pg.lambda_runtime import LambdaRuntime
from tests.pg.pooler import pooler
from tests.tenants import Tenant

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/serverless"
Ask = Callable[..., tuple[int, str]]  # method, path, body


@contextmanager
def running(url: str, tenant: Tenant, *words: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    settings = {**os.environ, "DATABASE_URL": url, "TARBOX_TENANT": tenant.info.name, "PYTHONPATH": str(EXAMPLES.parents[1]), **env}
    process = subprocess.Popen([sys.executable, "-m", *words], cwd=EXAMPLES, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            said, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
        print(said)
        assert "Traceback" not in said


@contextmanager
def lambda_function(url: str, tenant: Tenant) -> Iterator[tuple[Ask, subprocess.Popen[str]]]:
    with LambdaRuntime() as runtime:
        env = {"AWS_LAMBDA_RUNTIME_API": runtime.address, "AWS_LAMBDA_FUNCTION_NAME": "notes", "AWS_REGION": "local"}
        with running(url, tenant, "awslambdaric", "aws_lambda.handler", **env) as process:

            def ask(method: str, path: str, body: str = "") -> tuple[int, str]:
                event = {"version": "2.0", "rawPath": path, "requestContext": {"http": {"method": method, "path": path}}, "body": body}
                answer = runtime.invoke(event)
                return answer["statusCode"], answer["body"]

            yield ask, process


@contextmanager
def google_function(url: str, tenant: Tenant) -> Iterator[tuple[Ask, subprocess.Popen[str]]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("functions_framework", "--source", "google_function.py", "--target", "notes", "--host", "127.0.0.1", "--port", str(port))
    with running(url, tenant, *words) as process:

        def ask(method: str, path: str, body: str = "") -> tuple[int, str]:
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body.encode() if method == "POST" else None, method=method)
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return response.status, response.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        yield ask, process


@pytest.mark.parametrize("function", [lambda_function, google_function])
@pytest.mark.parametrize("through_pooler", [False, True])
def test_notes(function: Callable[[str, Tenant], Iterator[tuple[Ask, object]]], through_pooler: bool, schema_url: str, tenant: Tenant) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        url = stack.enter_context(pooler(schema_url)) if through_pooler else schema_url
        ask, _ = stack.enter_context(function(url, tenant))  # type: ignore[arg-type]
        assert ask("GET", "/notes") == (200, "")
        assert ask("GET", "/notes/today") == (404, "no such note\n")
        assert ask("POST", "/notes/today", "buy milk") == (201, "")
        status, sealed = ask("POST", "/checkpoints/lunch")
        assert status == 201 and sealed
        assert ask("POST", "/checkpoints/lunch")[0] == 409
        assert ask("POST", "/notes/today", "und Brötchen\n") == (201, "")
        assert ask("POST", "/notes/later", "x") == (201, "")
        assert ask("GET", "/notes") == (200, "later\ntoday\n")
        assert ask("GET", "/notes/today") == (200, "buy milk\nund Brötchen\n")
        assert ask("POST", f"/notes/{'x' * 300}", "x")[0] == 409
        assert ask("GET", "/elsewhere")[0] == 404
        status, changes = ask("GET", "/changes")
        assert status == 200 and "--- /notes/today (lunch)\n+++ /notes/today (head)\n@@ -1 +1,2 @@\n buy milk\n+und Brötchen\n" in changes


@pytest.mark.parametrize("function", [lambda_function, google_function])
def test_an_instance_that_was_frozen_goes_on(
    function: Callable[[str, Tenant], Iterator[tuple[Ask, subprocess.Popen[str]]]], schema_url: str, tenant: Tenant, pg_server: PgServer
) -> None:
    with function(schema_url, tenant) as (ask, process):  # type: ignore[attr-defined]
        assert ask("POST", "/notes/n", "one") == (201, "")
        process.send_signal(signal.SIGSTOP)
        admin = pg_server.connect()
        admin.run("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'tarbox' and pid <> pg_backend_pid()")
        admin.close()
        process.send_signal(signal.SIGCONT)
        assert ask("POST", "/notes/n", "two") == (201, "")
        assert ask("GET", "/notes/n") == (200, "one\ntwo\n")
