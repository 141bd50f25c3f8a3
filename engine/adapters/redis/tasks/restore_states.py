"""The state of tasks whose stored state was deleted, found anew by what else is kept of them.

A task without a stored state that waits in its lane is as it should be. Any other has lost its state, which must be
found here before the task may be queued, or tasks that have ended would run again.
"""

import logging
from collections import Counter
from collections.abc import Sequence

from engine.adapters.redis.tasks.task_reader import known, look
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.layouts import LAYOUTS
from engine.core.task.stored_task import StoredTask

_KINDS = {b"RESTORED": "state", b"UNKNOWN": "unknown", b"QUEUED": "line"}

_errors = logging.getLogger("ganger.errors")


def restore(redis: Connections, keys: Keys, ids: Sequence[str], kept_ms: int) -> Counter[str]:
    """Find the states of tasks that may have lost theirs; return how many had, by what became of them.

    "state": it is what it was. "unknown": it has run and nobody knows what it was, so it has ended. "line": it has
    never run and was in no line, so it is queued.
    """
    if not ids:
        return Counter()
    now_ms, layout = redis.now_ms(), LAYOUTS["restore"]
    args = layout.args(base=keys.base, now_ms=now_ms, remove_ms=now_ms + kept_ms)
    words = redis.run("restore", layout.keys(keys), [*args, *ids])
    for task_id in (task_id for task_id, word in zip(ids, words, strict=True) if word == b"UNKNOWN"):
        _errors.error("the state of a task was deleted: it has ended, since it may have run",
                      extra={"task_id": task_id})
    return Counter(_KINDS[word] for word in words if word in _KINDS)


def look_restored(redis: Connections, keys: Keys, ids: Sequence[str], kept_ms: int) -> list[StoredTask | None]:
    """As `look`, when those of the tasks that have lost their state have it again."""
    found = look(redis, keys, ids)
    astray = [stored.id for stored in known(found) if stored.line is None and stored.problem is None]
    return look(redis, keys, ids) if restore(redis, keys, astray, kept_ms) else found
