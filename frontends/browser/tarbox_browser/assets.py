"""The files of the page, as `nox -s browser-build` leaves them: held by name, sent compressed where a sibling is, kept for ever where the name has a hash.

Nothing of a tenant is here: its files reach the page through the gateway alone, so none of them is ever a document of this origin.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.responses import FileResponse, Response

from tarbox_core.errors import TarboxError

FOLDER: Final = Path(__file__).with_name("static")
PAGE: Final = "index.html"

_HASHED: Final = re.compile(r"[.-](?:[0-9A-Z]{8}|[0-9a-f]{8,64})(?=[./])")  # in the name of a file, or of a folder above it
_CODINGS: Final = (("br", ".br"), ("gzip", ".gz"))  # the better first
_TYPES: Final = {
    ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html", ".css": "text/css", ".json": "application/json",
    ".map": "application/json", ".webmanifest": "application/manifest+json", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon",
    ".woff2": "font/woff2", ".zip": "application/zip", ".txt": "text/plain",
}  # fmt: skip


@dataclass(frozen=True)
class Asset:
    path: Path
    etag: str
    codings: Mapping[str, Path]
    headers: Mapping[str, str]

    def response(self, accepted: str, known: str | None) -> Response:
        """`accepted`, `known`: the request's Accept-Encoding and If-None-Match."""
        coding = next((name for name in self.codings if name in _accepted(accepted)), "")
        etag = f'"{self.etag}{"-" * bool(coding)}{coding}"'
        headers = {**self.headers, "etag": etag, **({"content-encoding": coding} if coding else {})}
        if known is not None and etag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return Response(status_code=304, headers=headers)
        return FileResponse(self.codings.get(coding, self.path), headers=headers)


class Assets:
    """The files of a folder by their path below it. TarboxError: there is no page."""

    def __init__(self, folder: Path) -> None:
        if not (folder / PAGE).is_file():
            raise TarboxError("the explorer's page is not built: run `python wasm/browser.py` in a checkout of tarbox, and install that again")
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        spare = {name for name in files for _, ending in _CODINGS if name.endswith(ending) and name.removesuffix(ending) in files}
        self._assets = {name: _asset(name, path, files) for name, path in files.items() if name not in spare}

    @property
    def page(self) -> Asset:
        return self._assets[PAGE]

    def find(self, name: str) -> Asset | None:
        return self._assets.get(name)


def _asset(name: str, path: Path, files: Mapping[str, Path]) -> Asset:
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    kept = "public, max-age=31536000, immutable" if _HASHED.search(name) else "no-cache"
    text = "; charset=utf-8" * kind.startswith(("text/", "application/json"))
    with path.open("rb") as file:
        etag = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    codings = {coding: files[name + ending] for coding, ending in _CODINGS if name + ending in files}
    return Asset(path, etag, codings, {"content-type": kind + text, "cache-control": kept, "vary": "accept-encoding"})


def _accepted(header: str) -> set[str]:
    """The codings that a request takes."""
    found = set()
    for each in header.lower().split(","):
        coding, _, weight = each.strip().partition(";")
        if weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            found.add(coding.strip())
    return found
