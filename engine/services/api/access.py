"""Who is calling, and what they may: bearer keys with a role and queues.

Only hashes of keys are stored. The table is read anew every second; while
Redis is away the last one holds, so that nobody gets in and nobody falls out.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import Any

from engine.adapters.redis.vault import hashed
from engine.errors import BrokerUnavailable
from engine.services.api.problems import Refused

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="ganger"'}


class Role(IntEnum):
    """Each may what the ones before it may."""

    NONE = 0  # whoever asks
    READ = 1
    SUBMIT = 2
    OPERATE = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Guest:
    """Whoever makes a call. `queues` are those that they may use, None for all."""

    name: str
    role: Role
    queues: frozenset[str] | None = None
    rate_per_s: float = 0.0

    def must_be(self, role: Role) -> None:
        """Raises `Refused`."""
        if self.role < role:
            raise Refused(403, f"this needs a key with the role {role.name.lower()}; this one has "
                          f"{self.role.name.lower()}")

    def must_see_all(self) -> None:
        """Raises `Refused` for a key of some queues only."""
        if self.queues is not None:
            raise Refused(403, "this key is for some queues only, and what was asked for concerns all of them")

    def sees(self, queue: str) -> bool:
        return self.queues is None or queue in self.queues

    def must_see(self, queue: str) -> None:
        """Raises `Refused`."""
        if not self.sees(queue):
            raise Refused(403, f"this key is not for the queue {queue!r}", field="queue", value=queue)


ANYBODY = Guest("anybody", Role.ADMIN)
NOBODY = Guest("nobody", Role.NONE)


@dataclass(frozen=True, slots=True)
class _Known:
    guest: Guest
    hash: str


class Access:
    """`is_open`: serve whoever comes where there are no keys. `is_local`: only this host can reach us."""

    def __init__(self, *, is_open: bool, is_local: bool) -> None:
        self.is_open, self.is_local = is_open, is_local
        self._keys: dict[str, _Known] | None = None  # None: not read yet

    @property
    def wants_keys(self) -> bool:
        return bool(self._keys) or not self.is_open

    def learn(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the table as it is in Redis over; what cannot be read is no key."""
        known = {}
        for key_id, told in keys.items():
            try:
                queues = told.get("queues")
                known[key_id] = _Known(Guest(
                    f"{told['name']} ({key_id})", Role[str(told["role"]).upper()],
                    None if queues is None else frozenset(queues), float(told.get("rate_per_s") or 0)),
                    str(told["hash"]))
            except (KeyError, TypeError, ValueError):
                continue
        self._keys = known

    def identify(self, authorization: bytes | None) -> Guest:
        """Raises `Refused` for a key that is none, and `BrokerUnavailable` while keys are not known."""
        if self._keys is None:
            raise BrokerUnavailable("Redis is away, and with it the keys")
        if authorization is None:
            if self.wants_keys:
                raise Refused(401, "this needs a key: Authorization: Bearer KEY", headers=_CHALLENGE)
            return ANYBODY
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        prefix, _, rest = token.strip().partition("_")
        key_id, _, secret = rest.partition("_")
        known = self._keys.get(key_id)
        expected = known.hash if known else _NO_HASH
        matches = hmac.compare_digest(hashed(secret), expected)
        if not matches or known is None or scheme.lower() != "bearer" or prefix != "gk":
            if not self.wants_keys:
                return ANYBODY
            raise Refused(401, "this is not a key, or it was revoked", headers=_CHALLENGE)
        return known.guest


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


_NO_HASH = "0" * 64
