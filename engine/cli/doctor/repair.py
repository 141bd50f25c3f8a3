"""`ganger doctor --repair`: find contradictions and repair them now, all of them, as the keeper does once a minute."""

import time
from collections import Counter
from typing import TYPE_CHECKING

from engine.cli.doctor.finding import Finding, State

if TYPE_CHECKING:
    from engine.config import Settings
    from engine.ports.keeper_broker import KeeperBroker

_WATCH_S = 2.5  # a supervisor that lives renews its lease each second
_BATCH = 500
_REPAIRED = {
    "line": "queued tasks that were in no lane: put back into theirs",
    "turn": "lanes with tasks that were never served: they are served now",
    "misplaced": "keys that something else was written to: renamed, see the log",
    "state": "tasks whose state was deleted: found again by what else is kept of them",
    "unknown": "tasks whose state was deleted and that may have run: ended, and not run again",
    "due": "tasks that waited without a moment: due when they were to be, or now",
    "ahead": "retries that were dated by a clock that was set back: their pause begins now",
    "ended": "ended tasks without a moment of removal: they have one now",
    "held": "running tasks without a live lease: queued again, or put under their supervisor's lease",
    "spent": "running tasks without a live lease that must not be started again: failed, or put under that lease",
    "set": "leases without a running task: removed",
    "zset": "ids in a set where they do not belong: removed",
    "life": "stored states without a task: removed",
    "lost": "tasks whose stored state could not be read: failed",
    "unreadable": "tasks whose record could not be read: failed",
    "unfit": "parts of what is in Redis that could not be looked through: see the log",
    "stranger": "entries that are no task's: removed",
}


def repair(settings: "Settings") -> list[Finding]:
    """Mend everything there is, and say what. Raises `GangerError` if Redis cannot be reached."""
    from engine.services.composition import keeper_broker

    with keeper_broker(settings) as keeping:
        apart = keeping.rename_misplaced()
        if apart:
            time.sleep(_WATCH_S)  # until all that live have said so again
        leases = keeping.leases()
        began_s = time.monotonic()
        checked, mended = _reconcile(keeping)
        mended["misplaced"] += apart
        if _over(leases, keeping.now_ms()):
            time.sleep(max(0.0, began_s + _WATCH_S - time.monotonic()))
        silent = _over({name: end_ms for name, end_ms in keeping.leases().items() if leases.get(name) == end_ms},
                       keeping.now_ms())
        runs = sum(_rescue(keeping, name) for name in silent)
    done = (f"{mended[kind]} {text}" for kind, text in _REPAIRED.items() if mended[kind])
    return [*(Finding("repair", State.OK, text) for text in done),
            *([Finding("repair", State.OK, f"{runs} runs taken over from {', '.join(silent)}, whose lease is over")]
              if silent else []),
            Finding("repair", State.OK, f"{checked} entries looked at, {mended.total()} mended")]


def _reconcile(keeping: "KeeperBroker") -> tuple[int, Counter[str]]:
    checked, mended, cursor = 0, Counter[str](), None
    while True:
        look = keeping.audit(cursor)
        checked += look.checked
        mended.update({what: count for what, count in look.repaired.items() if what in _REPAIRED})
        cursor = look.cursor
        if cursor is None:
            return checked, mended


def _over(leases: dict[str, int], now_ms: int) -> list[str]:
    return [name for name, end_ms in leases.items() if end_ms < now_ms]


def _rescue(keeping: "KeeperBroker", supervisor: str) -> int:
    """Take over from a supervisor that fell silent; return how many runs that was."""
    runs = 0
    while True:
        report = keeping.rescue(supervisor, _BATCH)
        runs += report.released + report.failed + report.cancelled
        if report.is_over:
            return runs
