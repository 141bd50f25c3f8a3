"""Who is calling, and what they may do: bearer keys with a role and queues.

1. Only hashes of keys are stored. The table of keys is read every second.
2. Once there was a key, every call needs one: the API never opens again by itself.
3. While the table could not be read for STALE_S seconds, every call is refused: its key could have been revoked.
4. A wrong key is refused, also where no key is needed.
"""

import hmac
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address

from engine.errors import BrokerUnavailable
from engine.ports.api_keys import KEYED, ApiKeyStore, ApiKeyTable, hashed
from engine.services.api.http.problems import HttpError

STALE_S = 15.0
PROXY_HEADERS = (b"forwarded", b"via", b"x-real-ip")  # and all that begin with x-forwarded-
log = logging.getLogger("ganger.execution")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="ganger"'}


class Role(IntEnum):
    """Each role includes the roles before it."""

    NONE = 0  # any caller, with a key or without
    READ = 1
    SUBMIT = 2
    OPERATE = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request: a key, or anybody where there are none. `queues`: those it may use, None for all."""

    name: str
    role: Role
    queues: frozenset[str] | None = None
    rate_per_s: float = 0.0

    def must_be(self, role: Role) -> None:
        """Raise `HttpError` for a caller whose role does not include this one."""
        if self.role < role:
            raise HttpError(403, f"this needs a key with the role {role.name.lower()}; this one has "
                            f"{self.role.name.lower()}")

    def must_see_all(self) -> None:
        """Raise `HttpError` for a key of some queues only."""
        if self.queues is not None:
            raise HttpError(403, "this key is for some queues only, and what was asked for concerns all of them")

    def sees(self, queue: str) -> bool:
        """Return whether the caller may use a queue."""
        return self.queues is None or queue in self.queues

    def must_see(self, queue: str) -> None:
        """Raise `HttpError` for a caller that may not use a queue."""
        if not self.sees(queue):
            raise HttpError(403, f"this key is not for the queue {queue!r}", field="queue", value=queue)


ANYBODY = Principal("anybody", Role.ADMIN)
NOBODY = Principal("nobody", Role.NONE)


@dataclass(frozen=True, slots=True)
class _StoredKey:
    principal: Principal
    hash: str


class NotAuthenticated(HttpError):
    """The request has no key, or one that is not known."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail, headers=_CHALLENGE)


class Authenticator:
    """Finds the caller of each request, by the keys as they were read last.

    Args:
        is_open: whether calls without a key are served where there never was one.
        is_local: whether only this host can reach the API.
        clock: gives seconds.
    """

    def __init__(self, *, is_open: bool, is_local: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_open, self.is_local, self._clock = is_open, is_local, clock
        self._keys: dict[str, _StoredKey] = {}
        self._is_keyed = False
        self._learned_s: float | None = None  # None: not read yet

    @property
    def wants_keys(self) -> bool:
        return self._is_keyed or not self.is_open

    def learn(self, table: ApiKeyTable) -> None:
        """Take over the table of keys as it is in Redis, and log what has changed.

        A key that cannot be read is left out.
        A table without keys and without a mark, as after FLUSHALL, does not open what was closed.
        """
        known = {}
        for key_id, row in table.keys.items():
            try:
                queues = row.get("queues")
                known[key_id] = _StoredKey(Principal(
                    f"{row['name']} ({key_id})", Role[str(row["role"]).upper()],
                    None if queues is None else frozenset(queues), float(row.get("rate_per_s") or 0)),
                    str(row["hash"]))
            except (KeyError, TypeError, ValueError):
                continue
        is_first, had, wanted = self._learned_s is None, self._keys.keys(), self.wants_keys
        added, revoked = sorted(known.keys() - had), sorted(had - known.keys())
        self._keys, self._learned_s = known, self._clock()
        self._is_keyed = (self._is_keyed or table.is_keyed) and not table.was_opened
        if not is_first and (added or revoked or wanted is not self.wants_keys):
            log.info("the API keys have changed", extra={
                "added": added, "revoked": revoked, "keys": len(known), "wants_keys": self.wants_keys})

    def identify(self, authorization: bytes | None, *, may_be_stale: bool = False) -> Principal:
        """Return the caller.

        Args:
            authorization: the header, if there is one.
            may_be_stale: go by the keys as they were read last, however long ago.

        Raises: `NotAuthenticated` for a missing or wrong key; `BrokerUnavailable` while the keys are not known.
        """
        if self._learned_s is None:
            raise BrokerUnavailable("Redis is away, and with it the keys")
        if not may_be_stale and self._clock() - self._learned_s > STALE_S:
            raise BrokerUnavailable(f"the keys could not be read for {STALE_S:g} s")
        if authorization is not None:
            return self._holder(authorization)
        if self.wants_keys:
            raise NotAuthenticated("this needs a key: Authorization: Bearer KEY")
        return ANYBODY

    def _holder(self, authorization: bytes) -> Principal:
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        prefix, _, rest = token.strip().partition("_")
        key_id, _, secret = rest.partition("_")
        known = self._keys.get(key_id)
        expected = known.hash if known else _NO_HASH
        matches = hmac.compare_digest(hashed(secret), expected)
        if not matches or known is None or scheme.lower() != "bearer" or prefix != "gk":
            raise NotAuthenticated("this is not a key, or it was revoked")
        return known.principal


def is_forwarded(names: Iterable[bytes]) -> bool:
    """Return whether these names of headers, in lower case, say that a proxy has passed the request on."""
    return any(name in PROXY_HEADERS or name.startswith(b"x-forwarded-") for name in names)


def marked_table(store: ApiKeyStore) -> ApiKeyTable:
    """Read the keys; note that there are keys, where a version that made no such note has made them."""
    table = store.table()
    if table.keys and table.mark != KEYED:
        store.mark()
    return table


def is_loopback(host: str) -> bool:
    """Return whether only this host can reach an API that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


_NO_HASH = "0" * 64
