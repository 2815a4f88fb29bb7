"""Tenants for tests against a database. After each test fsck must find nothing in any tenant that it made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.tenants import Session, Tenant, prepare


@pytest.fixture(scope="module")
def schema_url(pg_url_module: str) -> str:
    """A database with the schema in it, for all tests of a file."""
    return prepare(pg_url_module)


@pytest.fixture
def make_tenant(schema_url: str) -> Iterator[Callable[..., Tenant]]:
    """Makes tenants, which are checked and closed after the test."""
    made: list[Tenant] = []

    def make(**settings: int) -> Tenant:
        made.append(Tenant(schema_url, **settings))
        return made[-1]

    yield make
    for tenant in made:
        tenant.finish()


@pytest.fixture
def tenant(make_tenant: Callable[..., Tenant]) -> Tenant:
    return make_tenant()


@pytest.fixture
def session(tenant: Tenant) -> Session:
    """Root's session on `tenant`; permissions are not enforced."""
    return tenant.session()
