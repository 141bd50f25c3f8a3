"""Whether tasks that are submitted now would run, from what the pools report and the handlers that are announced."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SILENT_S = 15.0  # a pool reports every three seconds, with the steps that Redis accepts


class HealthFindings(NamedTuple):
    """`reasons`: why tasks would wait. `degraded`: what works only in part."""

    reasons: list[str]
    degraded: list[str]


def find_problems(reports: Sequence[Mapping[str, Any]], handlers: set[str], now_ms: float) -> HealthFindings:
    """Say what is wrong with an engine.

    Args:
        reports: of the pools, each with `alive`: whether its lease holds.
        handlers: the task types that are announced.
        now_ms: Redis's time.

    Returns: nothing in `reasons` where tasks would run.
    """
    alive = [report for report in reports if report["alive"]]
    if not alive:
        return HealthFindings(["no pool is running"], [])
    silent = [report for report in alive if now_ms - (report.get("at_ms") or now_ms) > SILENT_S * 1000]
    failed = sorted({module for report in alive for module in report.get("import_failures") or ()})
    silences = [f"the pool {report.get('pool')} has had no step accepted by Redis for "
            f"{(now_ms - report['at_ms']) / 1000:.0f} s" for report in silent]
    reasons = silences if len(silent) == len(alive) else []
    degraded = [] if reasons else silences
    imports = f"these modules cannot be imported: {', '.join(failed)}" if failed else ""
    if not handlers or all(report.get("handlers") == 0 for report in alive):
        reasons.append("no pool knows a handler" + (f"; {imports}" if imports else ""))
    elif imports:
        degraded.append(imports)
    if not any(slot.get("pid") for report in alive for slot in report.get("slots", ())):
        reasons.append("no worker is up")
    if all(report.get("draining") for report in alive):
        reasons.append("every pool is draining")
    return HealthFindings(reasons, degraded)
