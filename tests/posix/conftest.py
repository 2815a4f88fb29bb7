"""The doors that the suite of this folder is run over."""

from __future__ import annotations

import pytest

from tests.tenants import prepare


@pytest.fixture(scope="module")
def module_url(pg_url_module: str) -> str:
    """A database with the schema in it, for all tests of a file."""
    return prepare(pg_url_module)
