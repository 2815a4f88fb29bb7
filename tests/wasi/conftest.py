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
def tarbox(schema_url: str, tmp_path: Path) -> Iterator[Tarbox]:
    with fresh(schema_url, tmp_path) as command:
        yield command


@pytest.fixture
def runner(tenant: Tenant, tmp_path: Path) -> Runner:
    """Runs guests on `tenant`, in this process."""
    return Runner(tenant, tmp_path)
