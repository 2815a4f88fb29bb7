"""Stands in for the module `ssl`, which CPython for WASI has not: scramp names these two classes to ask what a stream is."""

import sys


class SSLObject:
    """No stream of a component is one."""


class SSLSocket:
    """No stream of a component is one."""


sys.modules["ssl"] = sys.modules[__name__]
