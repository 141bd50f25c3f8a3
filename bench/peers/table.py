"""The comparison as a table: each engine's figures, and how many times Ganger's tasks per second they go into."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

COLUMNS = (
    ("tasks/s", "tasks_per_s"), ("Redis µs", "redis_us_per_task"), ("submit/s", "submit_per_s"),
    ("bulk/s", "submit_many_per_s"), ("bytes", "queued_bytes_per_task"), ("start p50", "start_ms_p50"),
    ("p99 ms", "start_ms_p99"), ("result p50", "result_ms_p50"), ("p99 ms", "result_ms_p99"),
)


def render(engines: dict[str, dict[str, Any]]) -> str:
    """The table of task queues, that of pools of processes, then versions and settings."""
    queues = [one for one in engines.values() if "tasks_per_s" in one.get("figures", {})]
    pools = [one for one in engines.values() if "results_per_s" in one.get("figures", {})]
    parts = [_queues(queues, engines["ganger"])] if len(queues) > 1 or len(pools) < 2 else []
    if len(pools) > 1:
        alone = _number(engines["ganger"]["figures"]["tasks_per_s"])
        parts.append("Submitted together, until the last result is in the caller's hands:\n"
                     + _pools(pools, engines["ganger"])
                     + f"\nGanger's engine alone, from a full queue to the last result in Redis: {alone} tasks/s")
    return "\n\n".join([*parts, "\n".join(_notes(engines.values()))])


def _queues(engines: list[dict[str, Any]], ganger: dict[str, Any]) -> str:
    rows = [("", "tasks/s", "Ganger does", *(head for head, _ in COLUMNS[1:]))]
    for engine in sorted(engines, key=lambda one: -one["figures"]["tasks_per_s"]):
        first, *others = (_number(engine["figures"][name]) for _, name in COLUMNS)
        rows.append((engine["label"], first, _times(engine, ganger, "tasks_per_s"), *others))
    return _columns(rows)


def _pools(engines: list[dict[str, Any]], ganger: dict[str, Any]) -> str:
    rows = [("", "results/s", "Ganger does", "100 calls in a message")]
    for engine in sorted(engines, key=lambda one: -one["figures"]["results_per_s"]):
        figures = engine["figures"]
        packed = _number(figures["packed_per_s"]) if "packed_per_s" in figures else ""
        rate = _number(figures["results_per_s"])
        rows.append((engine["label"], rate, _times(engine, ganger, "results_per_s"), packed))
    return _columns(rows)


def _times(engine: dict[str, Any], ganger: dict[str, Any], figure: str) -> str:
    return "" if engine is ganger else f"{ganger['figures'][figure] / engine['figures'][figure]:.2g} ×"


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) if not at else cell.rjust(width)
                               for at, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
                     for row in rows)


def _notes(engines: Iterable[dict[str, Any]]) -> Iterator[str]:
    for engine in engines:
        if "figures" not in engine:
            yield f"{engine['label']}: not measured: {engine.get('absent') or engine.get('error')}"
            continue
        versions = ", ".join(f"{name} {version}" for name, version in engine["versions"].items())
        yield f"{engine['label']}: {versions or 'of this Python'}; {engine['settings']}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 20 else f"{value:.1f}"
