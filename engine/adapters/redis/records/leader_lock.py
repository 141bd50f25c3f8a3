"""A lock for the one process of several that leads. It has a name and an end, and one script sets it.

Law: taking, renewing and giving up the lock compare and set in one call, so that no process ever ends the lead of
another. A leader names itself in each script by which it writes, since it may have lost the lead meanwhile.
"""

from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.layouts import LAYOUTS


class RedisLeaderLock:
    """`key` is the lock, `name` the process that asks for it."""

    def __init__(self, redis: Connections, key: str, name: str) -> None:
        self._redis, self.key, self.name = redis, key, name

    def take(self, for_s: float) -> bool:
        """Lead for so long, or for longer if we do already; False if another one leads."""
        now_ms = self._redis.now_ms()
        return self._ask(now_ms + int(for_s * 1000), now_ms)

    def give_up(self) -> None:
        """Let another one lead at once."""
        self._ask(0, self._redis.now_ms())

    def _ask(self, until_ms: int, now_ms: int) -> bool:
        args = LAYOUTS["lead"].args(name=self.name, until_ms=until_ms, now_ms=now_ms)
        return bool(self._redis.run("lead", [self.key], args) == b"LEADS")
