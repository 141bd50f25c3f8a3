"""Who is calling, and what they may: bearer keys with a role and queues.

1. Only hashes of keys are stored. The table is read anew every second.
2. Once there was a key, every call needs one: the API never opens again by itself.
3. A table that could not be read for STALE_S lets nobody in: a key could have been revoked meanwhile.
4. A token that is no key is refused, also where no key is needed.
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

    NONE = 0  # whoever asks
    READ = 1
    SUBMIT = 2
    OPERATE = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever makes a call. `queues` are those that they may use, None for all."""

    name: str
    role: Role
    queues: frozenset[str] | None = None
    rate_per_s: float = 0.0

    def must_be(self, role: Role) -> None:
        """Raises `HttpError`."""
        if self.role < role:
            raise HttpError(403, f"this needs a key with the role {role.name.lower()}; this one has "
                            f"{self.role.name.lower()}")

    def must_see_all(self) -> None:
        """Raises `HttpError` for a key of some queues only."""
        if self.queues is not None:
            raise HttpError(403, "this key is for some queues only, and what was asked for concerns all of them")

    def sees(self, queue: str) -> bool:
        return self.queues is None or queue in self.queues

    def must_see(self, queue: str) -> None:
        """Raises `HttpError`."""
        if not self.sees(queue):
            raise HttpError(403, f"this key is not for the queue {queue!r}", field="queue", value=queue)


ANYBODY = Principal("anybody", Role.ADMIN)
NOBODY = Principal("nobody", Role.NONE)


@dataclass(frozen=True, slots=True)
class _StoredKey:
    principal: Principal
    hash: str


class NotAuthenticated(HttpError):
    """There is no key, or what was presented is none."""

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail, headers=_CHALLENGE)


class Authenticator:
    """`is_open`: serve whoever comes where there never was a key. `is_local`: only this host can reach us.

    `clock` gives seconds.
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
        """Take over the table as it is in Redis; what cannot be read is no key. Says in the log what has changed.

        A table without keys and without a mark, as after FLUSHALL, does not open what was closed.
        """
        known = {}
        for key_id, told in table.keys.items():
            try:
                queues = told.get("queues")
                known[key_id] = _StoredKey(Principal(
                    f"{told['name']} ({key_id})", Role[str(told["role"]).upper()],
                    None if queues is None else frozenset(queues), float(told.get("rate_per_s") or 0)),
                    str(told["hash"]))
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
        """Who calls. Raises `HttpError` for a key that is none, and `BrokerUnavailable` while keys are not known."""
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
    """Whether these names of headers, in lower case, say that a proxy has passed the request on."""
    return any(name in PROXY_HEADERS or name.startswith(b"x-forwarded-") for name in names)


def marked_table(store: ApiKeyStore) -> ApiKeyTable:
    """Read the keys; note that there are keys, where a version that made no such note has made them."""
    table = store.table()
    if table.keys and table.mark != KEYED:
        store.mark()
    return table


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


_NO_HASH = "0" * 64
