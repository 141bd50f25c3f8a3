"""The client that `my_handler.submit(…)` uses: made from the settings when first asked for.

A started Scheduler and the inline engine put themselves in its place while they run.
"""

import os
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.client.client import Client


class _Default:
    lock = Lock()
    client: "Client | None" = None


def default_client() -> "Client":
    """The client of this process; made from the settings where nobody has set one.

    Raises `InvalidSetting` where the settings are wrong.
    """
    with _Default.lock:
        if _Default.client is None:
            from engine.client.client import Client

            _Default.client = Client()
        return _Default.client


def set_default_client(client: "Client | None") -> "Client | None":
    """Make `client` the default one; return the one before, to put it back later."""
    with _Default.lock:
        before, _Default.client = _Default.client, client
        return before


def default_client_is(client: object) -> bool:
    """Whether `client` is the default one now."""
    return _Default.client is client


def _renew_lock() -> None:
    """In the child of a fork: a thread of the parent may have held it."""
    _Default.lock = Lock()


os.register_at_fork(after_in_child=_renew_lock)
