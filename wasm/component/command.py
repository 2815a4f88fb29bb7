"""The way into the component: wasi:cli/run is the command line of tarbox, with its ordinary driver over wasi:sockets.

All of this but `run` happens while the component is built, and is kept in it: `everything` (written by the build)
imports what tarbox may ever import, the schema and the version are read: a component has no files of its own to read
them from later.
"""

import sys

import everything  # noqa: F401
from componentize_py_types import Err
from wit_world import exports

from tarbox_cli.main import main
from tarbox_cli.settings import version
from tarbox_core.drivers import migrate

migrate.migrations()
version()


class Run(exports.Run):
    def run(self) -> None:
        """Run the arguments as a command line. WASI 0.2 knows two statuses, so that every failure is 1."""
        status = main(sys.argv[1:])
        sys.stderr.flush()
        if status:
            raise Err(None)
