"""A filesystem for AI agents that lives in PostgreSQL. `connect` opens a tenant's tree (docs/serverless.md); loaded when used."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tarbox_core.client.async_tree import aconnect as aconnect
    from tarbox_core.client.tree import connect as connect

_HOMES = {"connect": "tarbox_core.client.tree", "aconnect": "tarbox_core.client.async_tree"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
