"""Moving keys away that something else was written to.

The data of such a key is lost already. The key is in the way of every script that touches it, and so of tasks that have
nothing to do with it. It is kept under another name, and the repair finds again what other keys tell.
"""

import logging
from collections.abc import Sequence

from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.key_types import LOOKED_AT_MAX, always_there, key_type
from engine.adapters.redis.wire.keys import Keys
from engine.core.task.names import is_queue_name
from engine.core.task.priority import DESCENDING

# Nobody is let in or refused by what is in these, without that somebody has looked at them.
_LEFT_ALONE = frozenset({"schema", "api:keys", "api:keyed"})
NAMES_MAX = 1_000  # queues and supervisors whose keys are looked at

_errors = logging.getLogger("ganger.errors")


def rename_misplaced(redis: Connections, keys: Keys) -> int:
    """Rename the keys that are of the wrong type; return how many. Each is logged with its new name."""
    fixed = [key for key in always_there(keys.base) if key.removeprefix(keys.base) not in _LEFT_ALONE]
    return _set_apart(redis, keys.base, fixed) + _set_apart(redis, keys.base, _named_by_others(redis, keys))


def _named_by_others(redis: Connections, keys: Keys) -> list[str]:
    """The keys of supervisors and of the lines that have or had tasks."""
    names = [name.decode(errors="replace") for name in redis.call("ZRANGE", keys.supervisors, 0, NAMES_MAX - 1)]
    told = redis.call_all([("ZRANGE", keys.round_robin(priority), 0, NAMES_MAX - 1) for priority in DESCENDING])
    told += [redis.call("HRANDFIELD", keys.queues, NAMES_MAX)] * len(DESCENDING)
    lines = {(name.decode(errors="replace"), priority) for priority, members in zip(DESCENDING * 2, told, strict=True)
             for name in members}
    found = [key for name in names for key in (keys.running(name), keys.commands(name), keys.types(name))]
    for queue, priority in lines:
        if is_queue_name(queue):
            found += (keys.lane(queue, priority), keys.cursors(queue, priority))
    return found


def _set_apart(redis: Connections, base: str, suspects: Sequence[str]) -> int:
    count = 0
    for start in range(0, len(suspects), LOOKED_AT_MAX):
        few = suspects[start : start + LOOKED_AT_MAX]
        others = [f"{base}misplaced:{key.removeprefix(base)}" for key in few]  # of each only the latest is kept
        names = [name for pair in zip(few, others, strict=True) for name in pair]
        types = [key_type(base, key) or "" for key in few]
        moved = {key.decode() for key in redis.run("rename_misplaced", names, types)}
        for key, other in zip(few, others, strict=True):
            if key in moved:
                _errors.error("something else was written to a key of the engine: it was renamed",
                              extra={"key": key, "renamed": other})
        count += len(moved)
    return count
