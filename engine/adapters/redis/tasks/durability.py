"""Whether what was written is on Redis's disk, for submits that want to know before they return.

    appendfsync always            Redis answers a write when it is on disk: there is nothing to ask
    everysec, Redis 7.2 or later  WAITAOF answers when it is; a second later at most
    anything else                 nobody can know, and the submit is refused before it is written
"""

from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.errors import from_redis
from engine.adapters.redis.wire.keys import Keys
from engine.errors import BrokerError, BrokerUnavailable, DurabilityUnavailable

_WAITAOF_SINCE = (7, 2)
_PATIENCE = 0.8  # of the deadline of a call: Redis's own answer should come before we give up


class Durability:
    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    def check(self) -> None:
        """Raises `DurabilityUnavailable` with the reason if this Redis cannot say when a write is on disk."""
        self._is_always()

    def confirm(self) -> None:
        """Return when all that was written before is on disk.

        Raises `BrokerUnavailable` if that takes longer than a call may: it is written, and may or may not be on disk.
        """
        if self._is_always():
            return
        wait_ms = int(self._redis.timeout_s * _PATIENCE * 1000)
        # WAITAOF waits for what its own connection wrote; a write of its own comes after ours, whichever wrote them.
        _, told = self._redis.call_all([("HINCRBY", self._keys.counters, "fsyncs", 1), ("WAITAOF", 1, 0, wait_ms)])
        if told[0] < 1:
            raise BrokerUnavailable(f"written, but not known to be on disk after {wait_ms} ms")

    def appendfsync(self) -> str | None:
        """The policy; None where this user may not ask, or at a hosted Redis, which has no CONFIG."""
        try:
            found = self._redis.call("CONFIG", "GET", "appendfsync")
        except BrokerError:
            return None
        return found[1].decode() if found else None

    def _is_always(self) -> bool:
        told, policy = self._redis.calls([("INFO", "persistence"), ("CONFIG", "GET", "appendfsync")])
        if isinstance(told, Exception):
            raise DurabilityUnavailable(f"this Redis cannot promise fsync: {from_redis(told)}")
        if b"aof_enabled:1" not in told:
            raise DurabilityUnavailable("this Redis cannot promise fsync: it keeps no append-only file "
                                        "(redis-cli CONFIG SET appendonly yes)")
        fsync = policy[1].decode() if isinstance(policy, list) and len(policy) == 2 else None
        if fsync == "always":
            return True
        if fsync == "no" or (self._redis.version or (0,)) < _WAITAOF_SINCE:
            raise DurabilityUnavailable(
                f"this Redis cannot promise fsync: appendfsync is {fsync or 'unknown to this user'}, and "
                f"{'everysec' if fsync == 'no' else 'Redis 7.2'} or appendfsync always is needed")
        return False
