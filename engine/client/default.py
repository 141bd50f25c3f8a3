"""The client that `my_handler.submit(…)` uses: made from the settings when first asked for.

A Scheduler that runs and an inline engine put their own client in its place.
"""

import os
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.client.client import Client


class _DefaultClient:
    lock = Lock()
    client: "Client | None" = None


def default_client() -> "Client":
    """Return the client of this process. It is made from the settings where none was set.

    Raises `InvalidSetting` if the settings are wrong.
    """
    with _DefaultClient.lock:
        if _DefaultClient.client is None:
            from engine.client.client import Client

            _DefaultClient.client = Client()
        return _DefaultClient.client


def set_default_client(client: "Client | None") -> "Client | None":
    """Make `client` the default client; return the one before, so that the caller can put it back."""
    with _DefaultClient.lock:
        before, _DefaultClient.client = _DefaultClient.client, client
        return before


def default_client_is(client: object) -> bool:
    """Return whether `client` is the default client now."""
    return _DefaultClient.client is client


def _renew_lock() -> None:
    """In the child of a fork: a thread of the parent may have held it."""
    _DefaultClient.lock = Lock()


os.register_at_fork(after_in_child=_renew_lock)
