"""The processes of the engine as lines of a tree: root, its children, each pool with its fork server and workers.

What supervisors report stands beside what was measured. A worker's line has what it started in it as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.cli.snapshot import Snapshot

Sample = dict[str, Any]
Place = tuple[Any, Any, Any]  # host, pid of the root, pid


@dataclass(frozen=True, slots=True)
class Row:
    """`worker` is "supervisor/slot" where it is one; `task` what it runs, with `running_s` as of now."""

    name: str
    pid: int | None = None
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    state: str = ""
    worker: str | None = None
    started: int = 0  # processes that the worker has started
    slot: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> dict[str, Any]:
        return self.slot.get("task") or {}


class _Samples:
    def __init__(self, snapshot: Snapshot) -> None:
        self.by_place: dict[Place, Sample] = {
            (one.get("host"), one.get("root_pid"), one.get("pid")): one for one in snapshot.processes}
        self._children: dict[Place, list[Sample]] = {}
        for one in snapshot.processes:
            self._children.setdefault((one.get("host"), one.get("root_pid"), one.get("ppid")), []).append(one)

    def below(self, place: Place) -> list[Sample]:
        return sorted(self._children.get(place, []), key=lambda sample: int(sample.get("pid") or 0))

    def all_below(self, place: Place) -> list[Sample]:
        found, open_ones = [], self.below(place)
        while open_ones:
            sample = open_ones.pop()
            found.append(sample)
            open_ones += [one for one in self.below((*place[:2], sample.get("pid"))) if one not in found]
        return found


def rows(snapshot: Snapshot) -> list[Row]:
    """Every line, host by host and engine by engine."""
    samples = _Samples(snapshot)
    engines: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for report in snapshot.supervisors:
        engines.setdefault((report.get("host"), report.get("root_pid")), []).append(report)
    found: list[Row] = []
    for (host, root_pid), reports in sorted(engines.items(), key=lambda item: (str(item[0][0]), item[0][1] or 0)):
        root = host, root_pid, root_pid
        found.append(_measured(f"root {host}", samples.by_place.get(root, {"pid": root_pid})))
        pools = {report.get("pid") for report in reports}
        found += [_measured(f"├ {_title(sample)}", sample) for sample in samples.below(root)
                  if sample.get("pid") not in pools]
        for report in sorted(reports, key=lambda report: str(report.get("pool"))):
            found += _pool(report, samples, snapshot.now_ms)
    return found


def _pool(report: dict[str, Any], samples: _Samples, now_ms: int) -> Iterator[Row]:
    state = "silent" if not report.get("alive", True) else "draining" if report.get("draining") else "up"
    engine = report.get("host"), report.get("root_pid")
    place = *engine, report.get("pid")
    yield _measured(f"├ pool {report.get('pool')}", samples.by_place.get(place, report), state)
    slots = report.get("slots") or []
    for sample in samples.below(place):
        yield _measured(f"│ ├ {_title(sample).removesuffix(' ' + str(report.get('pool')))}", sample)
    for slot in slots:
        began = samples.all_below((*engine, slot.get("pid"))) if slot.get("pid") else []
        guide = "└" if slot is slots[-1] else "├"
        yield Row(f"│ {guide} worker {slot.get('slot')}", slot.get("pid"), _sum("cpu_percent", slot, began),
                  _sum("rss_bytes", slot, began), str(slot.get("state") or ""),
                  f"{report.get('supervisor')}/{slot.get('slot')}", len(began), aged(slot, report, now_ms))


def aged(slot: dict[str, Any], report: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """The slot with the times of its task as they are now; the report is some seconds old."""
    task = slot.get("task")
    if not isinstance(task, dict) or not isinstance(report.get("at_ms"), int):
        return slot
    name = "stood_s" if slot.get("frozen") else "running_s"
    return {**slot, "task": {**task, name: (task.get(name) or 0) + max(0, now_ms - report["at_ms"]) / 1000}}


def _sum(name: str, slot: dict[str, Any], began: list[Sample]) -> Any:
    values = [value for one in (slot, *began) if (value := one.get(name)) is not None]
    return sum(values) if values else None


def _measured(name: str, sample: Sample, state: str = "") -> Row:
    return Row(name, sample.get("pid"), sample.get("cpu_percent"), sample.get("rss_bytes"), state)


def _title(sample: Sample) -> str:
    return str(sample.get("title") or "?").strip().removeprefix("ganger: ")
