"""A process that mounts a tree in memory: what the transport tests start. Not a test, and no database."""

from __future__ import annotations

import argparse
import os
import sys
from typing import cast

from tarbox_core.drivers.base import Driver
from tarbox_core.errors import TarboxError
from tarbox_core.filesystem import Filesystem
from tarbox_fuse import Timeouts, serve_mount
from tests.fuse.memory_fs import MemoryFilesystem


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--transport", default="kernel")
    parser.add_argument("--background", action="store_true")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--allow-other", action="store_true")
    parser.add_argument("--delay", type=float, help="seconds that every operation waits for its database; none: it asks for nothing")
    parser.add_argument("--timeout", type=float, default=1.0)
    parser.add_argument("--fail", help="what opening the filesystem shall complain of")
    parser.add_argument("--log")
    options = parser.parse_args()

    def open_fs() -> tuple[Driver, Filesystem]:
        if options.fail:
            raise TarboxError(options.fail)
        fs = MemoryFilesystem(trips=options.delay is not None, delay=options.delay or 0.0, uid=os.getuid(), gid=os.getgid())
        return fs.driver, cast(Filesystem, fs)

    try:
        serve_mount(
            options.directory, open_fs, tenant="mem", read_only=options.read_only, allow_other=options.allow_other,
            foreground=not options.background, transport=options.transport, log_file=options.log,
            timeouts=Timeouts(options.timeout, options.timeout, 0), ready=lambda: print("ready", flush=True),
        )  # fmt: skip
    except TarboxError as error:
        print(f"tarbox: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
