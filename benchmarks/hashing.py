"""BLAKE3 without an extension module beside the wheel: MB/s of both, and their ratio, by size.

    python benchmarks/hashing.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from blake3 import blake3

from tarbox_core.hashing import blake3_pure

SIZES = (64, 1024, 4096, 65536, 1 << 20, 16 << 20)


def rate(function: Callable[[bytes], object], data: bytes, seconds: float = 0.4) -> float:
    """MB/s (1 MB = 1,000,000 bytes), the best of three."""
    function(data)
    best = 0.0
    for _ in range(3):
        calls, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds / 3:
            function(data)
            calls += 1
        best = max(best, calls * len(data) / spent / 1e6)
    return best


def main() -> None:
    print(f"{'bytes':>10} {'pure MB/s':>10} {'wheel MB/s':>11} {'ratio':>8}")
    for size in SIZES:
        data = os.urandom(size)
        pure, wheel = rate(blake3_pure, data), rate(lambda block: blake3(block).digest(), data)
        print(f"{size:>10} {pure:>10.2f} {wheel:>11.1f} {pure / wheel:>8.4f}")


if __name__ == "__main__":
    main()
