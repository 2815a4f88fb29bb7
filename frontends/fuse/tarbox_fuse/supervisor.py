"""A watcher beside the daemon: when the daemon dies without a word, as by kill -9, it takes the dead mount away.

The watcher is a shell of under a megabyte. It waits on a pipe whose other end only the daemon holds: a word on it means
that all is well; its end without a word means death. It has its own session and takes no notice of the terminal's
signals. It unmounts only what has the device number of that one mount and does not answer: numbers are used again, and
a newer mount at the same place is to be left alone.
"""

from __future__ import annotations

import os
import subprocess
from typing import Final

from tarbox_fuse.mount import mounts

# $1: the device number as in mountinfo, $2: the mount point, the rest: the command that unmounts it.
_SCRIPT: Final = """
trap '' HUP INT TERM QUIT
cd /
read -r word && exit 0
device=$1 where=$2
shift 2
while read -r id parent this rest; do
    if [ "$this" = "$device" ]; then
        stat -f -- "$where" > /dev/null 2>&1 || exec "$@" "$where"
    fi
done < /proc/self/mountinfo
"""


class Supervisor:
    """Watches this process until `dismiss`."""

    def __init__(self, where: str, device: str) -> None:
        command = ["umount", "-l", "--"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z", "--"]
        self._device = device
        reading, self._writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "tarbox-watcher", device, where, *command],
                stdin=reading, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
            )  # fmt: skip
        finally:
            os.close(reading)

    @property
    def pid(self) -> int:
        return self._process.pid

    def unmounted(self) -> bool:
        """Whether there is nothing left to watch over."""
        return all(mount.device != self._device for mount in mounts())

    def dismiss(self) -> None:
        """The mount is gone in good order: let the watcher end, and wait for it."""
        try:
            os.write(self._writing, b"done\n")
        except BrokenPipeError:
            pass  # somebody killed the watcher
        os.close(self._writing)
        self._process.wait()
