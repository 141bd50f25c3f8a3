"""The keys of the API: what is kept of each, and whether calls need one."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

KEYED, OPENED = b"keyed", b"opened"


class ApiKeyTable(NamedTuple):
    """Every key by its id; one that cannot be read has nothing in it. `mark` says what was decided about open calls."""

    keys: dict[str, dict[str, Any]]
    mark: bytes | None

    @property
    def is_keyed(self) -> bool:
        """Whether a call needs a key: there is one, or there was one."""
        return bool(self.keys) or self.mark == KEYED

    @property
    def was_opened(self) -> bool:
        """Whether somebody has decided that calls need no key any more."""
        return not self.keys and self.mark == OPENED


class ApiKeyStore(Protocol):
    """Each method may raise `BrokerError`. Once there was a key, calls need one until somebody calls `open`."""

    def table(self) -> ApiKeyTable: ...

    def all(self) -> dict[str, dict[str, Any]]:
        """Every key by its id; one that cannot be read has nothing in it."""

    def add(self, key_id: str, told: Mapping[str, Any]) -> None: ...

    def remove(self, key_id: str) -> bool:
        """False if there is no such key."""

    def mark(self) -> None:
        """Note that there are keys, where they were made by a version that did not."""

    def open(self) -> bool:
        """Let calls need no key again; False, and nothing is changed, if there are keys."""


def hashed(secret: str) -> str:
    """What is stored of a key. Its secret is 256 bits of chance, so that no salt or slow hash is needed."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
