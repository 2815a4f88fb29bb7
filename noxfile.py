"""One session per question. `nox` asks all but `bench`; `nox -s pg -- -k rename` asks one thing.

Sessions keep their virtual environments; `nox -r` is the default, `nox -R` also skips installing.
"""

from __future__ import annotations

import os

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "unit", "pg", "posix", "fuse", "wasm", "wasi"]


def _install(session: nox.Session) -> None:
    session.install("-q", "-e", ".[all,dev]")


def _pytest(session: nox.Session, folder: str, *options: str) -> None:
    _install(session)
    session.run("pytest", "-q", "-ra", "--durations=5", *options, f"tests/{folder}", *session.posargs)


def _workers() -> str:
    """For tests that mostly wait; `-- -n0` runs them one after the other, where a debugger can follow."""
    return f"-n{max(2, os.cpu_count() or 1)}"


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and the import directions."""
    _install(session)
    session.run("ruff", "check", *(session.posargs or ["."]))
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Static types, strictly."""
    _install(session)
    session.run("mypy", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """Pure code: no server, no mount."""
    _pytest(session, "unit")


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
    _pytest(session, "wasi", _workers(), "--dist=loadfile")


@nox.session
def wasm(session: nox.Session) -> None:
    """Build the WASI guest and the component, where they are not up to date: into the package, and wasm/dist. Needs npm."""
    _install(session)
    session.run("python", "wasm/build.py", *session.posargs)
    session.run("python", "wasm/componentize.py")


@nox.session
def bench(session: nox.Session) -> None:
    """One of the benchmarks by its name, with its options; without one, a mount beside a plain directory and bindfs."""
    _install(session)
    name, *options = session.posargs or ["mount", "--setup"]
    session.run("python", f"benchmarks/{name}.py", *options)
