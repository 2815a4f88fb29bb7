"""The numbers that the writer and the reader of a delta agree on. `docs/delta-format.md` describes the bytes."""

from __future__ import annotations

from typing import Final

TEXT_MAX: Final = 64 << 20  # bytes; no longer text is stored as a delta, or rebuilt from one
CONTROL_MAX: Final = 1 << 20  # bytes of a delta's control part before it is deflated
DICTIONARY_MAX: Final = 24 << 10  # bytes of removed text that begin a group: deflate sees 32 KiB back
LEVEL: Final = 6  # zlib's; of the writer only
RAW_DEFLATE: Final = -15  # wbits: no header, no checksum, a window of 32 KiB
VARINT_MAX: Final = 9  # bytes of a number: 63 bits
