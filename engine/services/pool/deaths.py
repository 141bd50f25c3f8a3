"""Puts the death of a worker into the words of an outcome."""

from typing import Any

from engine.core.outcome import Outcome
from engine.core.slot import Run
from engine.ports import Exited


def outcome(run: Run, event: Exited, *, worker: str, wall_s: float, now_ms: int,
            stood_s: float = 0.0) -> Outcome:
    """What the end of its worker means for the run that it was executing: for `wall_s`, beside which it stood still for
    `stood_s`."""
    facts = {
        "worker": worker, "pid": event.pid, "ended_ms": now_ms, "started_ms": now_ms - int((wall_s + stood_s) * 1000),
        "wall_s": round(wall_s, 6), "cpu_s": event.usage.get("cpu_s"),
        "peak_rss_bytes": event.usage.get("peak_rss_bytes"), "post_mortem": _with_output(event, run.token),
    }
    if event.oom is not None:
        return Outcome.out_of_memory(run.number, event.oom, **facts)
    if event.signal is not None:
        return Outcome.killed(run.number, event.signal, **facts)
    return Outcome.exited(run.number, event.exitcode if event.exitcode is not None else -1, **facts)


def _with_output(event: Exited, token: int) -> dict[str, Any] | None:
    """What is known of the death, and what the run said last."""
    output = event.output(token)
    return {**event.post_mortem, "output": output} if event.post_mortem is not None and output else event.post_mortem
