"""A statement as a client of the gateway sent it, and how its values are looked at: the right kind comes from `frames`, the range here."""

from __future__ import annotations

from typing import Any, Final

from tarbox_core.effects import Statement
from tarbox_core.errors import GatewayError

END: Final = (1 << 63) - 1  # the largest int8


class Call:
    """A statement with the values that a client gave it, and the tenant. What a check refuses, it refuses by this."""

    __slots__ = ("statement", "values")

    def __init__(self, statement: Statement, values: list[Any]) -> None:
        self.statement = statement
        self.values = values

    def refused(self, number: int, why: str, code: str = "bad-parameters") -> GatewayError:
        """To be raised. `number`: the parameter, as the statement's text counts them; 0 for the statement itself."""
        where = f", parameter ${number}" if number else ""
        return GatewayError(code, f"statement {self.statement.name}{where}: {why}")

    def integer(self, number: int, low: int, high: int) -> int:
        value = self.values[number - 1]
        if not isinstance(value, int) or not low <= value <= high:
            raise self.refused(number, f"{value} is not between {low} and {high}" if isinstance(value, int) else "null")
        return value

    def integer_or_null(self, number: int, low: int, high: int) -> int | None:
        return None if self.values[number - 1] is None else self.integer(number, low, high)

    def octets(self, number: int, low: int, high: int) -> bytes:
        value = self.values[number - 1]
        if not isinstance(value, bytes) or not low <= len(value) <= high:
            raise self.refused(number, f"{len(value)} bytes; {low} to {high} may be" if isinstance(value, bytes) else "null")
        return value

    def octets_or_null(self, number: int, low: int, high: int) -> bytes | None:
        return None if self.values[number - 1] is None else self.octets(number, low, high)

    def text(self, number: int, high: int) -> str:
        value = self.values[number - 1]
        if not isinstance(value, str) or len(value) > high:
            raise self.refused(number, f"a text of {len(value)} characters; {high} are the limit" if isinstance(value, str) else "null")
        return value

    def text_or_null(self, number: int, high: int) -> str | None:
        return None if self.values[number - 1] is None else self.text(number, high)

    def flag(self, number: int) -> bool:
        value = self.values[number - 1]
        if not isinstance(value, bool):
            raise self.refused(number, "null")
        return value

    def array(self, number: int, most: int) -> list[Any]:
        """Not null, and nothing in it."""
        value = self.values[number - 1]
        if not isinstance(value, list) or None in value:
            raise self.refused(number, "null, or something in it is")
        if len(value) > most:
            raise self.refused(number, f"{len(value)} elements; {most} are the limit")
        return value
