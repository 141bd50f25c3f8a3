"""The client: submits tasks, asks about them, waits for them. It needs Redis and no pool."""

from engine.client.client import Client
from engine.client.default import default_client, set_default_client

__all__ = ["Client", "default_client", "set_default_client"]
