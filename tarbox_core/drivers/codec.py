"""How statements travel in PostgreSQL's protocol: one Plan for each, its messages and its rows.

Pure functions of bytes; no socket. The forms of single values are binary.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final

from tarbox_core.binary import DECODERS, ENCODERS, FORMS, NO_SIZE, NULL, OIDS, Decoder
from tarbox_core.effects import Row, Statement

_I4: Final = Struct(">i")
# Types of a result that are sent in the same form as the one that was declared: name, bpchar, varchar and their arrays.
_SAME_FORM: Final = {"text": frozenset({19, 1042, 1043}), "text[]": frozenset({1003, 1014, 1015})}


def accepts(type_name: str, oid: int) -> bool:
    """Whether a result column of this oid can be read as the declared type."""
    return OIDS[type_name] == oid or oid in _SAME_FORM.get(type_name, ())


# --- rows

_ROW_HEAD: Final = 7  # of a DataRow: kind, length, number of columns
RowDecoder = Callable[[memoryview, int, int], Row]  # of the DataRow message of `size` bytes at `pos`


def row_decoder(returns: Sequence[str]) -> RowDecoder:
    """Reads a DataRow of these columns. Columns of fixed width that stand together are read in one step."""
    if not returns:
        return lambda data, pos, size: ()
    if all(name in FORMS for name in returns):
        return _fixed_row_decoder(returns)
    decoders = [DECODERS[name] for name in returns]
    runs: list[tuple[Struct | None, tuple[int, ...], list[Decoder]]] = []
    start = 0
    while start < len(returns):
        stop = start
        while stop < len(returns) and returns[stop] in FORMS:
            stop += 1
        if stop - start > 1:
            forms = [FORMS[name] for name in returns[start:stop]]
            runs.append((Struct(">" + "".join("i" + form for form in forms)), tuple(Struct(">" + form).size for form in forms), decoders[start:stop]))
        else:
            stop = start + 1
            runs.append((None, (), decoders[start:stop]))
        start = stop
    length = _I4.unpack_from

    def decode(data: memoryview, pos: int, size: int) -> Row:
        end = pos + size
        pos += _ROW_HEAD
        row: list[Any] = []
        for together, widths, singly in runs:
            if together is not None and pos + together.size <= end:
                words = together.unpack_from(data, pos)
                if words[0::2] == widths:  # no NULL among them
                    row += words[1::2]
                    pos += together.size
                    continue
            for decode_one in singly:
                width = length(data, pos)[0]
                pos += 4
                if width < 0:
                    row.append(None)
                else:
                    row.append(decode_one(data, pos, width))
                    pos += width
        return tuple(row)

    return decode


def _fixed_row_decoder(returns: Sequence[str]) -> RowDecoder:
    whole = Struct(f">{_ROW_HEAD}x" + "".join("4x" + FORMS[name] for name in returns))
    unpack, whole_size = whole.unpack_from, whole.size
    singly = [DECODERS[name] for name in returns]

    def decode(data: memoryview, pos: int, size: int) -> Row:
        if size == whole_size:  # a NULL would have made it shorter
            return unpack(data, pos)
        pos += _ROW_HEAD
        row: list[Any] = []
        for decode_one in singly:
            width = _I4.unpack_from(data, pos)[0]
            pos += 4
            if width < 0:
                row.append(None)
            else:
                row.append(decode_one(data, pos, width))
                pos += width
        return tuple(row)

    return decode


class Plan:
    """How one statement travels: its Parse, its Bind for given values, its rows. `name`: the server's for it, where that is another.

    `bind` raises TypeError or ValueError, naming statement and parameter, before anything is sent.
    """

    __slots__ = ("_base", "_encoders", "_prefix", "_suffix", "_whole", "decode", "forget", "name", "parse", "statement")

    def __init__(self, statement: Statement, name: str | None = None) -> None:
        for type_name in (*statement.params, *statement.returns):
            if type_name not in OIDS:
                raise TypeError(f"statement {statement.name}: no binary form is known for type {type_name!r}")
        self.statement = statement
        self.name = statement.name if name is None else name
        server_name = self.name.encode()
        oids = b"".join(_I4.pack(OIDS[name]) for name in statement.params)
        # Describe comes with the one Parse: the types of the result are checked against `returns` once a connection.
        self.parse = message(b"P", server_name + b"\0" + statement.sql.encode() + b"\0" + len(statement.params).to_bytes(2) + oids) \
            + message(b"D", b"S" + server_name + b"\0")
        self.forget = message(b"C", b"S" + server_name + b"\0")
        # Bind to the unnamed portal: all parameters and all results in binary; then Execute without a row limit.
        self._prefix = b"\0" + server_name + b"\0\0\x01\0\x01" + len(statement.params).to_bytes(2)
        results = b"\0\x01\0\x01"
        self._suffix = results + message(b"E", b"\0\0\0\0\0")
        self._base = 4 + len(self._prefix) + len(results)
        self._whole = b"B" + _I4.pack(self._base) + self._prefix + self._suffix
        self._encoders = [ENCODERS[name] for name in statement.params]
        self.decode = row_decoder(statement.returns)

    def bind(self, values: Sequence[Any], parts: list[bytes]) -> None:
        """Append the Bind and Execute messages to `parts`."""
        encoders = self._encoders
        if len(values) != len(encoders):
            raise TypeError(f"statement {self.statement.name}: takes {len(encoders)} parameters, not {len(values)}")
        if not encoders:
            parts.append(self._whole)
            return
        at = len(parts)
        put = parts.append
        put(b"")
        size = self._base
        number = 0
        try:
            for value in values:
                if value is None:
                    put(NULL)
                    size += 4
                else:
                    size += encoders[number](value, put)
                number += 1
            if size > NO_SIZE:
                raise ValueError(f"{size} bytes are too many for one statement")
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            where = f"parameter ${number + 1} ({self.statement.params[number]})" if number < len(values) else "its parameters"
            raise kind(f"statement {self.statement.name}, {where}: {error}") from None
        parts[at] = b"B" + _I4.pack(size) + self._prefix
        put(self._suffix)


def message(kind: bytes, body: bytes) -> bytes:
    """A message of the protocol: kind, length (its own word included), body."""
    return kind + _I4.pack(len(body) + 4) + body


def mismatch(statement: Statement, description: bytes) -> TypeError | None:
    """What differs between a RowDescription and the statement's `returns`. A statement that declares none takes any."""
    if not statement.returns:
        return None
    count = int.from_bytes(description[:2])
    if count != len(statement.returns):
        return TypeError(f"statement {statement.name}: gives {count} columns, declares {len(statement.returns)}")
    pos = 2
    for number, declared in enumerate(statement.returns, 1):
        stop = description.index(b"\0", pos)
        oid = int.from_bytes(description[stop + 7:stop + 11])
        if not accepts(declared, oid):
            return TypeError(f"statement {statement.name}: column {number} ({description[pos:stop].decode()}) has type oid {oid}, is declared {declared}")
        pos = stop + 19
    return None
