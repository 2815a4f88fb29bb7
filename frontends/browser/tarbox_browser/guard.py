"""Before anything else is asked: is this the host that was meant, and which page asks? And the headers that every answer bears.

A page of another origin gets nothing: it cannot read answers (no CORS), open sockets (Origin), frame the page, or reach the
server under a name of its own (Host).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; font-src 'self'; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

Refuse = Callable[[Scope, str], Awaitable[None]]  # records that a request was refused, and why


class Names(NamedTuple):
    """Under which names this server is known: origins as browsers write them, and their hosts."""

    origins: frozenset[str]
    hosts: frozenset[str]

    @classmethod
    def of(cls, *origins: str) -> Names:
        return cls(frozenset(origins), frozenset(host_of(origin) for origin in origins))


def host_of(origin: str) -> str:
    """What browsers send as Host for an origin: without the port that its scheme has anyway."""
    return urlsplit(origin).netloc


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, names: Names, refuse: Refuse) -> None:
        self._app = app
        self._names = names
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        reason = self._objection(scope)
        if reason is None:
            await self._app(scope, receive, marked)
            return
        await self._refuse(scope, reason)
        answer = PlainTextResponse(f"refused: {reason}\n", 403)
        await answer(scope, receive, marked)

    def _objection(self, scope: Scope) -> str | None:
        """Why a request is refused whatever it shows, or None."""
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._names.hosts:
            return "host"
        if len(origins) > 1 or any(origin not in self._names.origins for origin in origins):
            return "origin"
        asker = headers.get("sec-fetch-site", "none")
        if asker not in ("none", "same-origin") and headers.get("sec-fetch-mode") != "navigate":
            return "origin"
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD") and not origins:
            return "origin"  # a browser names it with whatever changes something
        return None
