"""Packing to its end: the steps of a Packer, each operation a transaction of its own."""

from __future__ import annotations

from tarbox_core.drivers.base import Driver
from tarbox_core.filesystem import Filesystem
from tarbox_core.packing import Packed

BUDGET = 4 << 20  # bytes of content in one step, and what of the last file goes beyond


def pack(driver: Driver, fs: Filesystem) -> Packed:
    """Pack all text that no head sees."""
    packer = fs.packer(whole=True)
    total = Packed()
    while driver.run(lambda: packer.look(BUDGET)):
        total = total.plus(driver.run(packer.store))
    return total
