"""The desk at the door: who shows which secret, and what that opens; each use and each refusal goes into the tenant's audit.

Everything here waits for the database: it is called in threads.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tarbox_core import tokens
from tarbox_core.drivers import migrate
from tarbox_core.drivers.dsn import Dsn
from tarbox_core.drivers.sync import SyncDriver
from tarbox_core.errors import TarboxError
from tarbox_core.tokens import LINK, Token
from tarbox_core.types import Caller, TenantInfo

LINK_SECONDS: Final = 3600
SESSION_SECONDS: Final = 7 * 86400
RECORDS_A_MINUTE: Final = 120  # of refusals that cost whoever is refused nothing, for each tenant

How = Mapping[str, Any]
_log: Final = logging.getLogger("tarbox.browser")


class Refused(Exception):
    """Somebody is turned away: the status of HTTP, and why, in a word."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class House:
    """What is served, and how: the tenants, the servers' own secret, the branch that clients begin on, and whose process this is."""

    dsn: Dsn
    tenants: tuple[TenantInfo, ...]
    caller: Caller
    key: str = ""
    branch: str = "main"
    audit: bool = True
    synchronous: bool = False  # every commit waits for the disk
    clock: Callable[[], int] = time.time_ns


class Desk:
    def __init__(self, house: House) -> None:
        self.house = house
        self.tenants: Final = {tenant.name: tenant for tenant in house.tenants}
        self._served: Final = {tenant.id: tenant.name for tenant in house.tenants}
        self._links: list[bytes] = []
        self._driver = SyncDriver(house.dsn, pool_size=4)
        self._recorded: dict[int, deque[float]] = {}

    def close(self) -> None:
        """Links that nobody has used end with the server."""
        try:
            for digest in self._links:
                self._driver.run(lambda: tokens.withdraw(digest, self.house.caller))  # noqa: B023
        except TarboxError as error:
            _log.warning("the link is still good: %s", error)
        self._driver.close()

    def schema(self) -> int:
        """The version of the database's schema. TarboxError: it cannot be reached or used."""
        return self._driver.run(migrate.usable)

    def link(self, caller: Caller, *, read_only: bool) -> str:
        """The secret of a new link to all the tenants."""
        shown = _new()
        digest = tokens.hashed(shown, self.house.key)
        self._driver.run(
            lambda: tokens.create(self.house.tenants, digest, seconds=LINK_SECONDS, caller=caller, kind=LINK, name="serve", read_only=read_only), durable=True
        )
        self._links.append(digest)
        return shown

    def admit(self, shown: str, kinds: Collection[str], tenant: str | None, how: How, *, part: bool | None = None) -> list[Token]:
        """What a secret opens: of all tenants, or of one; `part`: whether it has to be for a path, or must not be. Refused."""
        digest = tokens.hashed(shown, self.house.key)
        verdict = self._driver.run(lambda: tokens.use(digest, kinds, self._served, tenant, how, self.house.caller, part=part))
        return self._opened(verdict, tenant, how)

    def begin(self, shown: str, how: How) -> tuple[str, list[Token]]:
        """A session for a link or a token: its secret, and what it opens. Refused."""
        session = _new()
        digests = [tokens.hashed(each, self.house.key) for each in (shown, session)]
        caller = self.house.caller
        verdict = self._driver.run(lambda: tokens.exchange(digests[0], digests[1], SESSION_SECONDS, self._served, how, caller), durable=True)
        return session, self._opened(verdict, None, how)

    def end(self, shown: str) -> None:
        """End a session."""
        digest = tokens.hashed(shown, self.house.key)
        self._driver.run(lambda: tokens.end(digest, self.house.caller), durable=True)

    def standing(self, idents: Sequence[int]) -> set[int]:
        return self._driver.run(lambda: tokens.standing(idents))

    def refuse(self, tenant: str | None, reason: str, how: How, *, known: bool = False) -> None:
        """Record a refusal where the tenant is known: by its name, or as the only one. `known`: so is who is refused, of whom each one
        is recorded. Never raises."""
        info = self.tenants.get(tenant) if tenant is not None else None
        if info is None and len(self.tenants) == 1:
            (info,) = self.tenants.values()
        _log.info("refused (%s): %s", reason, how)
        if info is None or not (known or self._may_record(info.id)):
            return
        ident = info.id
        told = "".join(ch if ch.isprintable() else "?" for ch in reason)  # a client's words may be in it
        try:
            self._driver.run(lambda: tokens.refuse(ident, told, how, self.house.caller))
        except TarboxError as error:
            _log.warning("a refusal (%s) is not recorded: %s", reason, error)

    def _opened(self, verdict: tokens.Verdict, tenant: str | None, how: How) -> list[Token]:
        if verdict.tokens:
            return verdict.tokens
        if verdict.reason in ("unknown", "tenant", "kind"):  # no row of this tenant, so nothing is recorded yet
            self.refuse(tenant, verdict.reason, how)
        raise Refused(403 if verdict.reason in ("tenant", "path") else 401, verdict.reason)

    def _may_record(self, tenant: int) -> bool:
        """Whether the last minute has room for one more record: who is nobody fills no trail."""
        now = time.monotonic()
        times = self._recorded.setdefault(tenant, deque(maxlen=RECORDS_A_MINUTE))
        if len(times) == RECORDS_A_MINUTE and now - times[0] < 60:
            return False
        times.append(now)
        return True


def _new() -> str:
    return tokens.secret(secrets.token_bytes(tokens.RANDOM_BYTES))
