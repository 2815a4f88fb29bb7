"""One session per question. `nox` asks all but `bench`; `nox -s pg -- -k rename` asks one thing.

All sessions share one virtual environment, .nox/all. It is made when it is missing, and made anew when pyproject.toml or
the interpreter is another one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "unit", "pg", "posix", "fuse", "wasm", "wasi", "browser-build", "browser"]


ENVIRONMENT = Path(".nox/all").absolute()


def _run(session: nox.Session, program: str, *words: str) -> None:
    """Run a program of the environment, which is first on its PATH."""
    made_of = hashlib.sha256(Path("pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    stamp = ENVIRONMENT / "made-of"
    if not stamp.exists() or stamp.read_text() != made_of:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        session.run(sys.executable, "-m", "venv", str(ENVIRONMENT))
        session.run(str(ENVIRONMENT / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "-q", "-e", ".[all,dev]")
        stamp.write_text(made_of)
    session.run(str(ENVIRONMENT / "bin" / program), *words, env={"PATH": f"{ENVIRONMENT}/bin{os.pathsep}{os.environ['PATH']}"})


def _pytest(session: nox.Session, folder: str, *options: str) -> None:
    _run(session, "pytest", "-q", "-ra", "--durations=5", *options, f"tests/{folder}", *session.posargs)


def _workers(more: int = 1) -> str:
    """One more than there are processors, where tests wait a good deal. `-- -n0` runs them one after the other, where a debugger can follow."""
    return f"-n{max(2, os.cpu_count() or 1) + more}"


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and the import directions."""
    _run(session, "ruff", "check", *(session.posargs or ["."]))
    _run(session, "lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Static types, strictly."""
    _run(session, "mypy", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """Pure code: no server, no mount."""
    _pytest(session, "unit", _workers())


@nox.session
def pg(session: nox.Session) -> None:
    """Drivers, schema and the command line, against a real PostgreSQL."""
    _pytest(session, "pg", _workers(), "--dist=loadfile")


@nox.session
def posix(session: nox.Session) -> None:
    """What POSIX asks of a tree, verb by verb."""
    _pytest(session, "posix", _workers(), "--dist=worksteal")


@nox.session
def fuse(session: nox.Session) -> None:
    """Real mounts: both transports, real programs, crashes."""
    _pytest(session, "fuse", _workers(), "--dist=worksteal")


@nox.session
def wasi(session: nox.Session) -> None:
    """WebAssembly: programs on a tenant's tree, the core inside wasmtime, and the component. Builds what is not up to date."""
    _pytest(session, "wasi", _workers(more=0), "--dist=loadfile")


@nox.session
def wasm(session: nox.Session) -> None:
    """Build the WASI guest and the component, where they are not up to date: into the package, and wasm/dist. Needs npm."""
    _run(session, "python", "wasm/build.py", *session.posargs)
    _run(session, "python", "wasm/componentize.py")


@nox.session(name="browser-build")
def browser_build(session: nox.Session) -> None:
    """Build what the explorer's page is made of, where it is not up to date; how much a first visit moves."""
    _run(session, "python", "wasm/browser.py", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """The explorer in Chromium, the server behind it, and the core inside Pyodide. Builds what is not up to date."""
    _pytest(session, "browser", _workers(), "--dist=loadfile")


@nox.session
def bench(session: nox.Session) -> None:
    """One of the benchmarks by its name, with its options; without one, a mount beside a plain directory and bindfs."""
    name, *options = session.posargs or ["mount", "--setup"]
    _run(session, "python", f"benchmarks/{name}.py", *options)
