"""Tenants and commands for guests. After each test fsck finds nothing in its tenant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pg.cli import Tarbox, fresh
from tests.pg.conftest import make_tenant, schema_url, tenant
from tests.tenants import Tenant
from tests.wasi.helpers import Runner

__all__ = ["make_tenant", "schema_url", "tenant"]


@pytest.fixture
def tarbox(schema_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tarbox]:
    """What wasmtime compiles is kept from run to run: seconds of each large program."""
    assert request.config.cache is not None
    with fresh(schema_url, tmp_path) as command:
        command.env["XDG_CACHE_HOME"] = str(request.config.cache.mkdir("compiled"))
        yield command


@pytest.fixture
def runner(tenant: Tenant, tmp_path: Path) -> Runner:
    """Runs guests on `tenant`, in this process."""
    return Runner(tenant, tmp_path)
