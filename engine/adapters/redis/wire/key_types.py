"""Of which type of Redis each key is, and which ones somebody has written over with something else."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.core.task.lifecycle import FINAL
from engine.core.task.priority import DESCENDING
from engine.errors import BrokerError

# By the whole name below the base, or by what stands before the first colon where more follows.
_TYPES = {
    **dict.fromkeys(("tasks", "states", "outcomes", "progress", "rescues", "queues", "unused", "cancel_requests",
                     "reports", "syncs", "idle_supervisors", "handlers", "waiters", "counters", "api:keys",
                     "api:webhooks", "api:deliveries", "cursors:", "processes:"), "hash"),
    **dict.fromkeys(("due", "expiring", "supervisors", "announced", "api:deliveries:due", "lane:", "round_robin:",
                     "ended:"), "zset"),
    **dict.fromkeys(("types_aside", "running:", "types:"), "set"),
    **dict.fromkeys(("schema", "keeper", "api:keyed", "api:deliveries:position", "api:deliverer", "idempotency:"),
                    "string"),
    **dict.fromkeys(("commands:", "log:", "history:"), "list"),
    **dict.fromkeys(("events", "api:journal"), "stream"),
}
NAMED_MAX = 5  # in one message
LOOKED_AT_MAX = 500  # at once

Calls = Callable[[Sequence[Sequence[Any]]], list[Any]]  # what `Connections.calls` does


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
                                     *(f"round_robin:{priority.name}" for priority in DESCENDING))]


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
