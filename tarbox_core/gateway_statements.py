"""The SQL that the gateway adds to what its clients send. As `statements`, whose conventions they share."""

from __future__ import annotations

from typing import Final

from tarbox_core.effects import Statement

MISSING_BLOCK: Final = "TBX01"  # the SQLSTATE of a block that is not stored

# In front of what names these blocks: ends the transaction where one is not stored.
BLOCKS_STORED: Final = Statement("gateway.blocks", "select tarbox_blocks_stored($1, $2)", ("int8", "bytea[]"), ("bool",))
