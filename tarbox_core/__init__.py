"""A filesystem for AI agents that lives in PostgreSQL. `connect` opens a tenant's tree (docs/serverless.md); loaded when used."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tarbox_core.client.async_tree import AsyncTree as AsyncTree
    from tarbox_core.client.async_tree import aconnect as aconnect
    from tarbox_core.client.tree import Tree as Tree
    from tarbox_core.client.tree import connect as connect
    from tarbox_core.errors import ConnectError as ConnectError
    from tarbox_core.errors import ConnectionLost as ConnectionLost
    from tarbox_core.errors import LayerError as LayerError
    from tarbox_core.errors import RetryableError as RetryableError
    from tarbox_core.errors import TarboxError as TarboxError
    from tarbox_core.errors import TransactionError as TransactionError

_HOMES = {
    "connect": "client.tree",
    "Tree": "client.tree",
    "aconnect": "client.async_tree",
    "AsyncTree": "client.async_tree",
    **dict.fromkeys(("ConnectError", "ConnectionLost", "LayerError", "RetryableError", "TarboxError", "TransactionError"), "errors"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
