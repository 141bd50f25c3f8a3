"""Webhooks: which there are, and the messages that are under way.

The position in the stream of events moves on in the same write that adds the messages made of what was read, and only
for the leader, so that an end is told of even if its reader dies. A message may be sent twice; its id is the same then.
"""

import base64
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

from engine.ports.leader import LeaderLock

OWN = "own"  # beside the webhooks: what messages to a task's own webhook are signed with; there once one was submitted


class WebhookStore(Protocol):
    """Each method may raise `BrokerError`."""

    def all(self) -> dict[str, dict[str, Any]]:
        """Every webhook by its id, and `OWN` where a task with a webhook of its own was ever submitted.

        A webhook that cannot be read is left out.
        """

    def own_secret(self, *, renewed: bool = False) -> str:
        """What messages to tasks' own webhooks are signed with; makes it, or another one."""

    def add(self, hook_id: str, told: Mapping[str, Any]) -> None: ...

    def remove(self, hook_id: str) -> bool:
        """False if there is no such webhook."""

    def lock(self, name: str) -> LeaderLock:
        """The lock of the one that delivers."""

    def position(self) -> str | None:
        """The id of the last entry of the stream of which messages were made."""

    def advance(self, leader: str, position: str, messages: Mapping[str, Mapping[str, Any]], due_ms: int) -> bool:
        """Take messages on, and move on in the stream: both or neither. False: `leader` does not lead any more."""

    def due(self, now_ms: int, limit: int) -> dict[str, dict[str, Any]]:
        """Messages whose time has come. A message that cannot be read is thrown away."""

    def under_way(self, limit: int) -> dict[str, dict[str, Any]]:
        """Messages that have not arrived yet, the next ones first, with `due_ms`."""

    def count_under_way(self) -> int: ...

    def done(self, message_id: str) -> None:
        """The message has arrived, or is given up."""

    def again(self, message_id: str, told: Mapping[str, Any], due_ms: int) -> None:
        """Try once more, later."""


def new_secret() -> str:
    """In the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
