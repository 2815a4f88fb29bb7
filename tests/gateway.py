"""A gateway and its client in one process, as a driver that tests use like any other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tarbox_core import frames
from tarbox_core.drivers.remote import RemoteDriver
from tarbox_core.drivers.serving import LIMITS, Limits, Served
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Query, Rows
from tarbox_core.gateway import Grant
from tarbox_core.tenant import attach
from tarbox_core.types import TenantInfo
from tests.tenants import Session, Tenant

WRITING = Grant()


class ServedDriver(RemoteDriver):
    """A RemoteDriver with the gateway that answers it."""

    def __init__(self, url: str, tenant: TenantInfo, grant: Grant, **options: Any) -> None:
        self.served = Served(url, tenant, grant, **options)
        super().__init__(self.served.exchange)

    def close(self) -> None:
        super().close()
        self.served.close()


def through_gateway(tenant: Tenant, grant: Grant = WRITING, *, limits: Limits = LIMITS, **session: Any) -> Session:
    """A session on the tenant's main branch whose driver holds no password."""
    with SyncDriver(tenant.url, tenant.info.role, pool_size=1) as driver:
        attached = driver.run(lambda: attach(tenant.info))
    remote = ServedDriver(tenant.url, attached, grant, limits=limits)
    return tenant.through(remote, remote.tenant, **session)


class Talker:
    """A client that says what it likes, frame by frame."""

    def __init__(self, exchange: Callable[[bytes], bytes], first: int = 1) -> None:
        self._exchange = exchange
        self._numbers = itertools.count(first)

    def say(self, transaction: int, *queries: Query, begin: bool = False, commit: bool = False, durable: bool = False) -> list[Rows]:
        """A batch's rows; raises the error that is answered."""
        number = next(self._numbers)
        frame = frames.batch(number, transaction, queries, begin=begin, commit=commit, durable=durable)
        answer = frames.read_answer(self._exchange(frame), frames.ROWS)
        assert answer.number == number
        return frames.read_rows(answer, [query.statement for query in queries])
