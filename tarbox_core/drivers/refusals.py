"""What the server says when it refuses, as our errors: SQLSTATE to class, and clear lines for a login that failed."""

from __future__ import annotations

from typing import Any

from tarbox_core.drivers.dsn import Dsn
from tarbox_core.errors import ConnectError, DiskFullError, RetryableError, SqlError


class LoginRefused(ConnectError):
    """By pg_hba.conf, which may depend on whether the connection is encrypted."""


class Starting(ConnectError):
    """The server starts up, shuts down or recovers."""


class ParameterRefused(ConnectError):
    """A setting was not taken at the start of the session."""


class AnswerTooLarge(SqlError):
    """More than whoever asked has room for. Whether a commit that was part of it took effect is not known."""


def fields_of(body: memoryview) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse, by their letter."""
    return {chr(field[0]): field[1:].decode("utf-8", "replace") for field in bytes(body).split(b"\0") if field}


def sql_error(fields: dict[str, str], name: str) -> SqlError:
    code = fields.get("C", "XX000")
    text = fields.get("M", "the server gave no reason")
    if detail := fields.get("D"):
        text = f"{text}: {detail}"
    kind = SqlError
    if code in ("40001", "40P01"):
        kind = RetryableError
    elif code == "53100" or (code[:2] in ("58", "XX") and "no space left" in text.lower()):
        kind = DiskFullError
    return kind(code, text, name)


def refusal(dsn: Dsn, user: str, fields: dict[str, Any]) -> ConnectError:
    code, text = str(fields.get("C", "")), str(fields.get("M", "the server gave no reason"))
    where = dsn.redacted()
    if code == "28P01" and dsn.password is None:
        return ConnectError(f"{where}: the server wants a password for {user}, and none was given")
    if code == "28P01":
        return ConnectError(f"{where}: wrong password for {user}, or no such role")
    if code == "28000":
        return LoginRefused(f"{where}: the server lets {user} not in: {text}")
    if code == "3D000":
        return ConnectError(f"{where}: there is no database {dsn.database or user}")
    if code == "53300":
        return ConnectError(f"{where}: the server has no connection left: {text}")
    if code == "57P03":
        return Starting(f"{where}: the server is not ready: {text}")
    if code == "08P01":
        return ParameterRefused(f"{where}: {text}")
    return ConnectError(f"{where}: {text} (SQLSTATE {code})")
