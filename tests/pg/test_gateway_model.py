"""Random operations and verbs of layers through a gateway, beside the model of tests/layer_machine.py: whatever an honest client
does passes. Maintenance has a grant of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from tarbox_core import check
from tarbox_core.drivers.packing import pack
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.effects import Op, Statement, many
from tarbox_core.filesystem import Filesystem
from tarbox_core.gateway import Grant
from tarbox_core.tenant import attach
from tests.gateway import ServedDriver
from tests.layer_machine import LayerMachine, walk
from tests.pg.test_layer_model import CoreDoor
from tests.tenants import ROOT, Tenant

R = TypeVar("R")

UNRECORDED = Statement("test.unrecorded", "select count(*) from audit_logs where tenant = $1 and operation = 'gateway'", ("int8",), ("int8",))
WALKS = int(os.environ.get("TARBOX_MODEL_WALKS", "1"))


class GatewayDoor(CoreDoor):
    """A session on a branch without a database password, and what maintains the tenant."""

    def __init__(self, tenant: Tenant, branch: str, *, alone: bool) -> None:
        with SyncDriver(tenant.url, tenant.info.role, pool_size=1) as driver:
            attached = driver.run(lambda: attach(tenant.info, branch))
        self._driver = ServedDriver(tenant.url, attached, Grant())
        self._upkeep = ServedDriver(tenant.url, attached, Grant(upkeep=True))
        super().__init__(tenant, branch, tenant.through(self._driver, attached, alone=alone, defer=alone))

    def maintain(self, verb: Callable[[Filesystem], Op[R]]) -> R:
        return self._upkeep.run(lambda: verb(self.fs), durable=True)

    def delete_layer(self, word: str) -> None:
        self.maintain(lambda fs: fs.delete_layer(ROOT, word))

    def squash(self, first: str, last: str) -> None:
        self.maintain(lambda fs: fs.squash(ROOT, first, last))

    def gc(self) -> None:
        pack(self._upkeep, self.fs)
        self.maintain(check.gc)

    def end_upkeep(self) -> None:
        self._upkeep.close()


class GatewayScene:
    def __init__(self, url: str, alone: bool) -> None:
        self.tenant = Tenant(url)
        self.alone = alone
        self._opened: list[GatewayDoor] = []

    def open_doors(self, branch: str) -> list[GatewayDoor]:
        self._opened.append(GatewayDoor(self.tenant, branch, alone=self.alone))
        return self._opened[-1:]

    def finish(self) -> None:
        assert self.tenant.owner.run(lambda: many(UNRECORDED(self.tenant.info.id))) == [(0,)], "an honest client records all it changes"
        for door in self._opened:
            door.end_upkeep()
        self.tenant.finish()


@pytest.mark.parametrize("alone", [False, True], ids=["others may be there", "alone"])
@pytest.mark.parametrize("seed", range(WALKS))
def test_a_long_random_walk_over_layers(schema_url: str, seed: int, alone: bool) -> None:
    walker = walk(type("Machine", (LayerMachine,), {"make_scene": staticmethod(lambda: GatewayScene(schema_url, alone))}), seed, 160)
    assert len(walker.model.layers) > 2
