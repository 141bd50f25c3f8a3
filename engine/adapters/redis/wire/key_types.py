"""Of which type of Redis each key is; which ones somebody has written over with something else; moving those away.

What stood in such a key is lost already. It only is in the way: of every script that touches it, and so of tasks that
have nothing to do with it. It is kept under another name, and the repair finds again what other keys tell.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from engine.core.task.lifecycle import FINAL
from engine.core.task.names import is_queue_name
from engine.core.task.priority import DESCENDING
from engine.errors import BrokerError

if TYPE_CHECKING:
    from engine.adapters.redis.wire.connection import Connections
    from engine.adapters.redis.wire.keys import Keys

# By the whole name below the base, or by what stands before the first colon where more follows.
_TYPES = {
    **dict.fromkeys(("tasks", "life", "outcomes", "progress", "rescues", "queues", "unused", "cancels", "reports",
                     "recovers", "idle", "handlers", "waiters", "counters", "api:keys", "api:webhooks",
                     "api:deliveries", "flows:", "processes:"), "hash"),
    **dict.fromkeys(("due", "expiring", "supervisors", "announced", "api:deliveries:due", "line:", "turns:", "ended:"),
                    "zset"),
    **dict.fromkeys(("aside", "held:", "types:"), "set"),
    **dict.fromkeys(("schema", "keeper", "api:keyed", "api:deliveries:position", "api:deliverer", "idempotency:"),
                    "string"),
    **dict.fromkeys(("orders:", "log:", "history:"), "list"),
    **dict.fromkeys(("events", "api:journal"), "stream"),
}
# Nobody is let in or refused by what is in these, without that somebody has looked at them.
_LEFT_ALONE = frozenset({"schema", "api:keys", "api:keyed"})
NAMED_MAX = 5  # in one message
LOOKED_AT_MAX = 500  # at once
NAMES_MAX = 1_000  # queues and supervisors whose keys are looked at

Calls = Callable[[Sequence[Sequence[Any]]], list[Any]]  # what `Connections.calls` does

_errors = logging.getLogger("ganger.errors")


def key_type(base: str, key: str) -> str | None:
    """The type that a key has to be of; None for one that is not the engine's."""
    if not key.startswith(base):
        return None
    name = key.removeprefix(base)
    return _TYPES.get(name) or _TYPES.get(name.partition(":")[0] + ":")


def always_there(base: str) -> list[str]:
    """The keys whose names do not depend on queues, supervisors or tasks."""
    names = [name for name in _TYPES if not name.endswith(":")]
    return [base + name for name in (*names, *(f"ended:{status}" for status in sorted(FINAL)),
                                     *(f"turns:{priority.name}" for priority in DESCENDING))]


def error_naming(calls: Calls, base: str, keys: Sequence[str]) -> BrokerError:
    """The error for a call that met a key of the wrong type."""
    suspects = list(dict.fromkeys([*always_there(base), *keys[:LOOKED_AT_MAX]]))
    kinds = calls([("TYPE", key) for key in suspects])
    found = _misplaced(base, ((key, kind.decode()) for key, kind in zip(suspects, kinds, strict=True)
                              if isinstance(kind, bytes)))
    more = f", and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    told = "; ".join(found[:NAMED_MAX]) or "a key of the engine is of another type than it has to be"
    return BrokerError(f"Redis could not do what was asked: {told}{more}. Something else has written there. The keeper "
                       "moves it away; so does ganger doctor --repair")


def _misplaced(base: str, told: Iterable[tuple[str, str]]) -> list[str]:
    found = []
    for key, kind in told:
        expected = key_type(base, key)
        if expected is not None and kind not in ("none", expected):
            found.append(f"the key {key} is a {kind} and has to be a {expected}")
    return found


def rename_misplaced(redis: "Connections", keys: "Keys") -> int:
    """Rename the keys that are of the wrong type; return how many. Each is logged with its new name."""
    fixed = [key for key in always_there(keys.base) if key.removeprefix(keys.base) not in _LEFT_ALONE]
    return _set_apart(redis, keys.base, fixed) + _set_apart(redis, keys.base, _named_by_others(redis, keys))


def _named_by_others(redis: "Connections", keys: "Keys") -> list[str]:
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


def _set_apart(redis: "Connections", base: str, suspects: Sequence[str]) -> int:
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
