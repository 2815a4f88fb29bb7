"""What can go wrong, one class per cause.

Callers of the core see `FsError` (an errno and the path or name it concerns) or a `TarboxError` with a sentence for
people. Drivers translate whatever their library raises into the `SqlError` family; no driver's own exception type
crosses into an operation.
"""

from __future__ import annotations

import errno as _errno
from typing import ClassVar, Final

ENODATA: Final[int] = getattr(_errno, "ENODATA", 0x10000)  # WASI knows none: a number that no other error has


class TarboxError(Exception):
    """Anything Tarbox reports to its user. `str()` is one clear line: what is wrong and, where known, what to do."""


class FsError(TarboxError):
    """A POSIX failure. `errno` is one of the errno module's numbers; `subject` names the path, name or inode."""

    # The messages are ours: the core imports no os, and WASI's libc words differ from glibc's.
    _WORDS: ClassVar = {
        _errno.EPERM: "operation not permitted",
        _errno.ENOENT: "no such file or directory",
        _errno.EIO: "input/output error",
        _errno.EBADF: "bad file descriptor",
        _errno.EAGAIN: "try again",
        _errno.EACCES: "permission denied",
        _errno.EBUSY: "busy",
        _errno.EEXIST: "file exists",
        _errno.EXDEV: "cross-device link",
        _errno.ENOTDIR: "not a directory",
        _errno.EISDIR: "is a directory",
        _errno.EINVAL: "invalid argument",
        _errno.EFBIG: "file too large",
        _errno.ENOSPC: "no space left in the database",
        _errno.EROFS: "read-only file system",
        _errno.EMLINK: "too many links",
        _errno.ERANGE: "result too large",
        _errno.ENAMETOOLONG: "name too long",
        _errno.ENOTEMPTY: "directory not empty",
        _errno.ELOOP: "too many levels of symbolic links",
        ENODATA: "no such attribute",
        _errno.ENXIO: "no data at or after that offset",
        _errno.EOPNOTSUPP: "operation not supported",
        _errno.ESTALE: "stale file handle",
        _errno.E2BIG: "value too large",
    }

    def __init__(self, errno: int, subject: bytes | str | int | None = None) -> None:
        self.errno = errno
        self.subject = subject
        super().__init__(errno, subject)

    def __str__(self) -> str:
        words = self._WORDS.get(self.errno, _errno.errorcode.get(self.errno, f"error {self.errno}"))
        if self.subject is None:
            return words
        if isinstance(self.subject, bytes):
            return f"{self.subject.decode('utf-8', 'backslashreplace')}: {words}"
        if isinstance(self.subject, int):
            return f"inode {self.subject}: {words}"
        return f"{self.subject}: {words}"


class LayerError(TarboxError):
    """A verb of layers refused: the text says why, `errno` is for doors that need a number (the control files)."""

    def __init__(self, errno: int, message: str) -> None:
        self.errno = errno
        super().__init__(message)


class SqlError(TarboxError):
    """The server refused a statement. `sqlstate` is PostgreSQL's five-character code (its Appendix A)."""

    def __init__(self, sqlstate: str, message: str, statement: str = "") -> None:
        self.sqlstate = sqlstate
        self.statement = statement
        super().__init__(f"{message} (SQLSTATE {sqlstate}{f', in {statement}' if statement else ''})")


class RetryableError(SqlError):
    """Serialization failure or deadlock (40001, 40P01): a fresh run of the whole operation may succeed."""


class DiskFullError(SqlError):
    """The server has no room (53100, or an out-of-space I/O error); reported to callers as ENOSPC."""


class ConnectError(TarboxError):
    """No usable connection: unreachable, refused, wrong password, no such database. The text says which."""


class ConnectionLost(TarboxError):
    """The connection broke. `committing` is true when a COMMIT was in flight, so the outcome is not known."""

    def __init__(self, message: str, committing: bool = False) -> None:
        self.committing = committing
        super().__init__(message)


class SchemaError(TarboxError):
    """The database's schema is missing, older or newer than this program can use."""


class TenantError(TarboxError):
    """No such tenant, tenant exists, or a bad tenant name."""


class DeltaError(TarboxError):
    """A stored delta or keyframe cannot be read: damaged, cut off, or made for another text."""


class GatewayError(TarboxError):
    """A gateway refused what its client sent, and undid the transaction it was part of. `code` is one of `codes`."""

    codes: ClassVar = {
        "protocol": "the frame is not one of the protocol",
        "too-large": "a frame, a value or an answer beyond the limit",
        "unknown-statement": "no statement of that name",
        "not-allowed": "the statement is not for gateway clients, or not for this one",
        "bad-parameters": "a value of the wrong type, or beyond what the statement may be given",
        "bad-hash": "a block that its hash does not name, or a hash that names no block",
        "foreign": "a lock or a channel of another tenant",
        "transaction": "no such transaction, one that was open for too long, or too many at once",
    }

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)
