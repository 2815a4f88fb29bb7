"""What can go wrong, one class per cause.

Callers of the core see `FsError` (an errno and the path or name it concerns) or a `TarboxError` with a sentence for
people. Drivers translate whatever their library raises into the `SqlError` family; no driver's own exception type
crosses into an operation.
"""

from __future__ import annotations

import errno as _errno
from typing import ClassVar, Final

ENODATA: Final[int] = getattr(_errno, "ENODATA", 0x10000)  # WASI knows none: a number that no other error has

# What callers may be told: by name, Linux's number and our words. Numbers differ between systems, so what is stored is
# Linux's; words are ours, since the core imports no os and WASI's libc has other ones than glibc.
_ERRORS: Final = {
    "EPERM": (1, "operation not permitted"),
    "ENOENT": (2, "no such file or directory"),
    "EIO": (5, "input/output error"),
    "ENXIO": (6, "no data at or after that offset"),
    "E2BIG": (7, "value too large"),
    "EBADF": (9, "bad file descriptor"),
    "EAGAIN": (11, "try again"),
    "EACCES": (13, "permission denied"),
    "EBUSY": (16, "busy"),
    "EEXIST": (17, "file exists"),
    "EXDEV": (18, "cross-device link"),
    "ENOTDIR": (20, "not a directory"),
    "EISDIR": (21, "is a directory"),
    "EINVAL": (22, "invalid argument"),
    "ENFILE": (23, "too many open files"),
    "EFBIG": (27, "file too large"),
    "ENOSPC": (28, "no space left in the database"),
    "EROFS": (30, "read-only file system"),
    "EMLINK": (31, "too many links"),
    "ERANGE": (34, "result too large"),
    "ENAMETOOLONG": (36, "name too long"),
    "ENOTEMPTY": (39, "directory not empty"),
    "ELOOP": (40, "too many levels of symbolic links"),
    "ENODATA": (61, "no such attribute"),
    "ENOTSUP": (95, "operation not supported"),
    "EOPNOTSUPP": (95, "operation not supported"),  # the same number on Linux, and not everywhere
    "ESTALE": (116, "stale file handle"),
}
_NUMBERS: Final[dict[str, int]] = {name: getattr(_errno, name, ENODATA) for name in _ERRORS}  # of this system
_LINUX: Final = {_NUMBERS[name]: number for name, (number, _) in _ERRORS.items()}
_NAMES: Final = {number: name for name, (number, _) in reversed(_ERRORS.items())}


def linux_errno(number: int) -> int:
    """Linux's number for an error that this system gives another; 0 and what we know nothing of stay."""
    return _LINUX.get(number, number)


def errno_name(number: int) -> str:
    """The name of a stored errno, which is Linux's."""
    return _NAMES.get(number, str(number))


def errno_of(name: str) -> int:
    """This system's number; EIO's for a name that no caller is told."""
    return _NUMBERS.get(name, _errno.EIO)


class TarboxError(Exception):
    """Anything Tarbox reports to its user. `str()` is one clear line: what is wrong and, where known, what to do."""


class FsError(TarboxError):
    """A POSIX failure. `errno` is one of the errno module's numbers; `subject` names the path, name or inode."""

    _WORDS: ClassVar = {_NUMBERS[name]: words for name, (_, words) in _ERRORS.items()}

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


class ScopeError(FsError):
    """A path that leads out of the directory that a session is for, or what concerns more than that directory."""

    def __str__(self) -> str:
        return f"{super().__str__()}: it is outside of what is granted"


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


class TransactionError(TarboxError):
    """A transaction of several operations cannot go on, or what was asked for has no place in one."""


class SchemaError(TarboxError):
    """The database's schema is missing, older or newer than this program can use."""


class TenantError(TarboxError):
    """No such tenant, tenant exists, or a bad tenant name."""


class TokenError(TarboxError):
    """No such token, or one that cannot be."""


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
        "transaction": "no such transaction, or one that was open for too long",
        "busy": "as many transactions are open as may be: later there may be room",
    }

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)
