"""Puts the death of a worker into words: of an outcome, and of the pool's report."""

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import orjson

from engine.core.pool.slot import Phase, Run, Slot
from engine.core.task.outcome import Cause, Outcome
from engine.core.worker import inherited_state
from engine.ports.host import Exited


def outcome(run: Run, event: Exited, *, worker: str, wall_s: float, now_ms: int, suspended_s: float = 0.0,
            since_s: float = 0.0, inherited: Mapping[str, Any] = MappingProxyType({})) -> Outcome:
    """The end of a worker as the end of the run that it was executing.

    `wall_s`: how long the run was executed. `suspended_s`: how long it was suspended beside that. `since_s`: the moment
    at which it began. `inherited`: what the fork may have broken, see `core/worker/inherited_state`.
    """
    facts: dict[str, Any] = {
        "worker": worker, "pid": event.pid, "ended_ms": now_ms,
        "started_ms": now_ms - int((wall_s + suspended_s) * 1000),
        "wall_s": round(wall_s, 6), "cpu_s": _cpu_s(event.usage, since_s, wall_s),
        "peak_rss_bytes": event.usage.get("peak_rss_bytes"), "post_mortem": _with_last_words(event, run.token),
    }
    if event.oom is not None:
        return Outcome.out_of_memory(run.number, event.oom, **facts)
    if event.signal is not None:
        end = Outcome.killed(run.number, event.signal, **facts)
    else:
        end = Outcome.exited(run.number, event.exitcode, **facts)
    if said := inherited_state.last_words(event.output(run.token)):
        end = replace(end, message=f"{end.message}; {said}")
    return replace(end, remark=inherited_state.hint(inherited, end.cpu_s, wall_s))


def _cpu_s(usage: Mapping[str, Any], since_s: float, wall_s: float) -> float | None:
    """Of the run. Runs before it that were too short to be measured may be in the figure: then it is at most its wall
    time."""
    cpu_s: float | None = usage.get("cpu_s")
    if cpu_s is not None and usage.get("since_s", since_s) < since_s - _NOT_MEASURED_S:
        return min(cpu_s, wall_s)
    return cpu_s


_NOT_MEASURED_S = 0.1
DEATHS_MAX = 10  # that are reported


class DeathLog:
    """The last deaths of a pool's workers, and of its fork server. An end in good order is no death."""

    def __init__(self) -> None:
        self.workers: deque[dict[str, Any]] = deque(maxlen=DEATHS_MAX)  # the newest first
        self.server: dict[str, Any] = {"restarts": 0, "last_death": None}
        self.hooks: dict[str, str] = {}  # @on_worker_start that raised, until a worker has started: their messages

    def worker_ended(self, slot: Slot, event: Exited, now_ms: int) -> None:
        if slot.phase is Phase.QUITTING and event.signal is None and not event.exitcode:
            return
        task = slot.runs[0].task_id.decode() if slot.runs else None
        self.workers.appendleft({"slot": slot.index, "cause": _cause(slot, event), "at_ms": now_ms, "task": task})

    def hook_failed(self, hook: str, message: str) -> None:
        self.hooks[hook] = message

    def worker_started(self) -> None:
        self.hooks.clear()

    def server_lost(self, reason: str, now_ms: int) -> None:
        self.server = {"restarts": self.server["restarts"] + 1, "last_death": {"cause": reason, "at_ms": now_ms}}

    def last_of(self, index: int) -> dict[str, Any] | None:
        """The last death in a slot: {"slot", "cause", "at_ms", "task"}."""
        return next((death for death in self.workers if death["slot"] == index), None)


def _cause(slot: Slot, event: Exited) -> str:
    if event.oom is not None:
        return Cause.OUT_OF_MEMORY
    if slot.phase is Phase.DYING:
        return slot.kill_cause or "ended by its pool"
    if event.stranded:
        return "its fork server died"
    if event.signal is not None:
        return f"killed by {event.signal}"
    return "nobody knows why" if event.exitcode is None else f"exited with {event.exitcode}"


def _with_last_words(event: Exited, token: int) -> dict[str, Any] | None:
    """What is known of the death, what the run said last, and how far it was."""
    if event.post_mortem is None:
        return None
    added: dict[str, Any] = {}
    if (progress := event.progress(token)) is not None:
        with suppress(ValueError):  # a worker may have written anything before it died
            added["progress"] = orjson.loads(progress)
    if output := event.output(token):
        added["output"] = output
    return {**event.post_mortem, **added}
