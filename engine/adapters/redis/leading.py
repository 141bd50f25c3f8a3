"""Being the one that acts, where several processes could: a lock with a name and an end, in one script.

Law: to take it, to renew it and to give it up is to compare and to set in one call, so that nobody ever ends the lead
of another. Whoever writes because it leads names itself in the script that writes: it may have lost the lead meanwhile.
"""

from engine.adapters.redis.connection import Connections


class LeaderLock:
    """`key` is what they contend for, `name` one of them."""

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
        return bool(self._redis.run("lead", [self.key], [self.name, until_ms, now_ms]) == b"LEADS")
