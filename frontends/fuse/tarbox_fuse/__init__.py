"""The mount: a tenant's tree as a FUSE filesystem. `serve_mount` and `unmount` are all that other doors call."""

from tarbox_fuse.codec import Timeouts
from tarbox_fuse.dispatch import Options
from tarbox_fuse.mount import MountError
from tarbox_fuse.run import default_log_file, serve_mount, unmount

__all__ = ["MountError", "Options", "Timeouts", "default_log_file", "serve_mount", "unmount"]
