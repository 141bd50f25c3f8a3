"""The client: submits tasks, asks about them, waits for them. It needs Redis and no pool.

Its names are loaded when they are first used: a script with a Scheduler is executed in the fork server, which needs
neither Redis nor pydantic.
"""

from typing import TYPE_CHECKING, Any

from engine.client.default import default_client, set_default_client

if TYPE_CHECKING:
    from engine.client.client import Client

__all__ = ["Client", "default_client", "set_default_client"]


def __getattr__(name: str) -> Any:
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from engine.client.client import Client

    globals()[name] = Client
    return Client
