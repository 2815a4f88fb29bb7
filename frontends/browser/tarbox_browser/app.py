"""The application: which request is answered by what. Every one has passed the guard.

    GET  /, /t/...          the page; a path below /t/ is its own affair
    GET  /NAME              a file of the page
    GET  /health            whether the database answers, for whoever watches the server
    POST /login             {"token": SECRET}: a link or a token for a session, in a cookie
    GET  /session           what the session opens
    POST /logout            end it
    WS   /gateway/TENANT    the gateway, for a session or for a token in `Authorization: Bearer SECRET`; ?branch=NAME
    WS   /verbs/TENANT      the door of verbs, in the same way, for those that are for a path alone
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import anyio
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from tarbox_browser.assets import Assets
from tarbox_browser.desk import SESSION_SECONDS, Desk, How, Refused
from tarbox_browser.feed import Feed
from tarbox_browser.framing import FrameConversation
from tarbox_browser.guard import Guard, Names
from tarbox_browser.sockets import AGAIN, CONNECTIONS, ENDED, Conversation, aside
from tarbox_browser.verbs import VerbConversation
from tarbox_core import tenant
from tarbox_core.drivers.serving import Served
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.errors import TarboxError, TenantError
from tarbox_core.gateway import Grant
from tarbox_core.tokens import SESSION, TOKEN, Token
from tarbox_core.types import Caller, TenantInfo

SOCKETS: Final = 20  # at once: each may have connections to the database,
SOCKETS_EACH: Final = 8  # and of these, for one token with its sessions
LOOK: Final = 5.0  # seconds within which a revoked token's sockets are closed
LOGIN_MAX: Final = 4096  # bytes of a request to log in
BRAKE: Final = 0.2  # seconds that a refusal takes,
REFUSALS: Final = 8  # and how many are given at once

_log: Final = logging.getLogger("tarbox.browser")
_SOCKET: Final = re.compile(r"/(?:gateway|verbs)/([^/]+)\Z")


class Explorer:
    """The application for one server. `cookie`: the name of the session's; ports of one host share their cookies."""

    def __init__(self, desk: Desk, assets: Assets, names: Names, cookie: str) -> None:
        house = desk.house
        self._desk = desk
        self._assets = assets
        self._cookie = cookie
        self._feeds = {name: Feed(house.dsn, info, house.clock) for name, info in desk.tenants.items()}
        self._live: set[Conversation] = set()
        self._opening = 0
        self._held: Counter[int] = Counter()  # sockets by the token they come from
        self._brake = anyio.Semaphore(REFUSALS)
        routes = [
            Route("/health", self._health), Route("/login", self._login, methods=["POST"]), Route("/session", self._session),
            Route("/logout", self._logout, methods=["POST"]), WebSocketRoute("/gateway/{tenant}", self._gateway),
            WebSocketRoute("/verbs/{tenant}", self._verbs),
            Route("/", self._page), Route("/t/{rest:path}", self._page), Route("/{name:path}", self._file),
        ]  # fmt: skip
        handlers = {Refused: self._refusal, TarboxError: self._trouble}
        self._app = Guard(Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers), names, self._turned_away)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            yield
            tasks.cancel_scope.cancel()
        for feed in self._feeds.values():
            feed.close()

    async def _watch(self) -> None:
        """Close the sockets whose tokens stand no longer."""
        while True:
            await anyio.sleep(LOOK)
            live = list(self._live)
            if not live:
                continue
            try:
                standing = await aside(lambda: self._desk.standing([each.token.id for each in live]))  # noqa: B023
            except TarboxError as error:
                _log.warning("cannot see which tokens are revoked: %s", error)
                continue
            for each in live:
                if each.token.id not in standing:
                    each.end(ENDED, "revoked")

    # --- the page

    async def _page(self, request: Request) -> Response:
        return self._assets.page.response(request.headers.get("accept-encoding", ""), request.headers.get("if-none-match"))

    async def _file(self, request: Request) -> Response:
        asset = self._assets.find(request.path_params["name"])
        if asset is None:
            return PlainTextResponse("not found\n", 404)
        return asset.response(request.headers.get("accept-encoding", ""), request.headers.get("if-none-match"))

    async def _health(self, request: Request) -> Response:
        try:
            schema: int | None = await aside(self._desk.schema)
        except TarboxError as error:
            _log.warning("the database: %s", error)
            schema = None
        told = {"status": "ok" if schema else "unavailable", "version": _version(), "database": schema is not None, "schema": schema}
        return JSONResponse(told, 200 if schema else 503)

    # --- sessions

    async def _login(self, request: Request) -> Response:
        shown = await _shown(request)
        session, opened = await aside(lambda: self._desk.begin(shown, _how(request)))
        answer = _opened(opened)
        secure = request.headers.get("origin", "").startswith("https:")
        answer.set_cookie(self._cookie, session, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="strict", secure=secure)
        return answer

    async def _session(self, request: Request) -> Response:
        shown = request.cookies.get(self._cookie)
        if not shown:  # as a page asks that is new here: no refusal to be recorded
            return _opened([])
        return _opened(await aside(lambda: self._desk.admit(shown, (SESSION,), None, _how(request))))

    async def _logout(self, request: Request) -> Response:
        shown = request.cookies.get(self._cookie)
        if shown:
            await aside(lambda: self._desk.end(shown))
        answer = Response(status_code=204)
        answer.delete_cookie(self._cookie, path="/", httponly=True, samesite="strict")
        return answer

    # --- sockets

    async def _gateway(self, socket: WebSocket) -> None:
        await self._open(socket, FrameConversation, part=False)

    async def _verbs(self, socket: WebSocket) -> None:
        await self._open(socket, VerbConversation, part=True)

    async def _open(self, socket: WebSocket, kind: type[Conversation], *, part: bool) -> None:
        """`part`: it is for those who may see a part of the tree, and for nobody else."""
        name, how = socket.path_params["tenant"], _how(socket)
        with ExitStack() as held:
            try:
                token, served = await self._let_in(socket, name, how, part, held)
            except (Refused, TarboxError) as error:
                answer = await (self._refusal if isinstance(error, Refused) else self._trouble)(socket, error)
                await socket.send_denial_response(answer)
                return
            await self._converse(kind, socket, served, token, how)

    async def _let_in(self, socket: WebSocket, name: str, how: How, part: bool, held: ExitStack) -> tuple[Token, Served]:
        """Whoever is not keeps no place while the refusal waits behind others. Refused, TarboxError."""
        self._opening += 1
        try:
            if len(self._live) + self._opening > SOCKETS:
                raise Refused(503, "busy")
            token = await self._admit(socket, name, how, part)
            held.enter_context(self._place(token))
            return token, await aside(lambda: self._serve(self._desk.tenants[name], token, socket.query_params.get("branch")))
        finally:
            self._opening -= 1

    @contextmanager
    def _place(self, token: Token) -> Iterator[None]:
        """One of the sockets that a token and its sessions have together. Refused."""
        root = token.parent or token.id
        if self._held[root] >= SOCKETS_EACH:
            raise Refused(503, "busy")
        self._held[root] += 1
        try:
            yield
        finally:
            self._held[root] -= 1
            if not self._held[root]:
                del self._held[root]

    async def _converse(self, kind: type[Conversation], socket: WebSocket, served: Served, token: Token, how: How) -> None:
        recording = anyio.Lock()  # so that a client that is refused much keeps no other one waiting

        async def refused(reason: str, **about: str) -> None:
            told = {"token": token.id, **how, **{key: _clipped(value) for key, value in about.items()}}
            async with recording:
                await aside(lambda: self._desk.refuse(token.tenant_name, reason, told, known=True))

        conversation, feed = kind(socket, served, token, refused), self._feeds[token.tenant_name]
        self._live.add(conversation)
        try:
            await socket.accept()
            try:
                ear = await feed.join(served.id)
            except TarboxError as error:
                _log.warning("%s: %s", token.tenant_name, error)
                await socket.close(AGAIN, "the database cannot be reached")
                return
            try:
                await conversation.run(ear)
            finally:
                feed.leave(ear)
        finally:
            self._live.discard(conversation)

    async def _admit(self, socket: WebSocket, name: str, how: How, part: bool) -> Token:
        """The token that lets a socket in: a program's, or the session of a page of ours. Refused."""
        scheme, _, shown = socket.headers.get("authorization", "").partition(" ")
        kinds: tuple[str, ...] = (TOKEN,)
        if scheme.lower() != "bearer":
            shown, kinds = socket.cookies.get(self._cookie, ""), (SESSION,)
            if "origin" not in socket.headers:
                raise Refused(403, "origin")  # a browser names it
        if not shown:
            raise Refused(401, "missing")
        (token,) = await aside(lambda: self._desk.admit(shown.strip(), kinds, name, how, part=part))
        return token

    def _serve(self, info: TenantInfo, token: Token, branch: str | None) -> Served:
        house = self._desk.house
        with SyncDriver(house.dsn, info.role, pool_size=1) as driver:
            attached = driver.run(lambda: tenant.attach(info, branch or house.branch))
        grant = Grant(read_only=token.read_only, audit=house.audit, caller=Caller(token.uid, token.gid, (), house.caller.pid))
        return Served(house.dsn, attached, grant, pool_size=CONNECTIONS, synchronous=house.synchronous)

    # --- refusals

    async def _turned_away(self, scope: Scope, reason: str) -> None:
        """What the guard refuses."""
        await self._slowly(HTTPConnection(scope), reason)

    async def _refusal(self, request: HTTPConnection, error: Exception) -> Response:
        assert isinstance(error, Refused)
        if error.reason in ("missing", "origin"):  # the desk has recorded the others
            await self._slowly(request, error.reason)
        else:
            await self._slowly(request, None)
        return JSONResponse({"error": error.reason}, error.status)

    async def _slowly(self, request: HTTPConnection, record: str | None) -> None:
        """Whoever is refused waits a moment, behind others who are."""
        named = _SOCKET.search(request.url.path)
        async with self._brake:
            await anyio.sleep(BRAKE)
            if record is not None:
                await aside(lambda: self._desk.refuse(named[1] if named else None, record, _how(request)))

    async def _trouble(self, request: HTTPConnection, error: Exception) -> Response:
        """What keeps the server from answering: the client is not told of the database."""
        if isinstance(error, TenantError):
            return JSONResponse({"error": "branch"}, 404)
        _log.warning("%s: %s", request.url.path, error)
        return JSONResponse({"error": "unavailable"}, 503)


async def _shown(request: Request) -> str:
    """The secret in a request to log in. Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "type")
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > LOGIN_MAX:
                raise Refused(413, "too-large")
    except ClientDisconnect:
        raise Refused(400, "gone") from None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    shown = content.get("token") if isinstance(content, dict) else None
    if not isinstance(shown, str) or not shown:
        raise Refused(401, "missing")
    return shown


def _how(request: HTTPConnection) -> dict[str, Any]:
    """What records tell of a request. Nothing of it is to be trusted but the peer."""
    headers = Headers(scope=request.scope)
    peer = request.client.host if request.client else None
    return {"door": "browser", "origin": _clipped(headers.get("origin")), "host": _clipped(headers.get("host")), "peer": peer}


def _clipped(text: str | None) -> str | None:
    """Fit for a record, and for a terminal that shows it."""
    return None if text is None else "".join(ch if " " <= ch <= "~" else ch.encode("unicode_escape").decode() for ch in text[:200])


def _opened(opened: list[Token]) -> Response:
    """What a session opens; `path`: the only directory of a tenant that it does, None for all. It may have lone surrogates, which stand
    escaped."""
    tenants = [
        {
            "name": each.tenant_name, "read_only": each.read_only, "expires_at": each.expires_at,
            "path": None if each.path is None else each.path.decode("utf-8", "surrogateescape"),
        } for each in opened
    ]  # fmt: skip
    return Response(json.dumps({"tenants": tenants}), media_type="application/json")


def _version() -> str:
    try:
        return version("tarbox")
    except PackageNotFoundError:
        return ""
