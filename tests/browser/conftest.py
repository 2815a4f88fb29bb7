"""What the tests of the explorer's page share: one tenant, one server and one page for a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.pg.cli import fresh
from tests.tenants import prepare

if TYPE_CHECKING:
    from tests.browser.explorer import Explorer
    from tests.browser.scoped import Part


@pytest.fixture(scope="module")
def shown(pg_url_module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """The explorer, on a new tenant."""
    from tests.browser.explorer import explorer

    with fresh(prepare(pg_url_module), tmp_path_factory.mktemp("page")) as tarbox:
        with explorer(tarbox) as made:
            yield made
        tarbox("gc")  # what was removed while the server might have had it open


@pytest.fixture(scope="module")
def part(pg_url_module: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    """A new tenant of which a token opens a part."""
    from tests.browser import scoped

    with scoped.part(prepare(pg_url_module), tmp_path_factory.mktemp("part")) as made:
        yield made
