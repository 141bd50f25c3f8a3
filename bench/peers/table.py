"""The comparison as a table: each engine's figures, and how many times Ganger's tasks per second they go into."""

from typing import Any

COLUMNS = (
    ("tasks/s", "tasks_per_s"), ("Redis µs", "redis_us_per_task"), ("submit/s", "submit_per_s"),
    ("bulk/s", "submit_many_per_s"), ("bytes", "queued_bytes_per_task"), ("start p50", "start_ms_p50"),
    ("p99 ms", "start_ms_p99"), ("result p50", "result_ms_p50"), ("p99 ms", "result_ms_p99"),
)


def render(engines: dict[str, dict[str, Any]]) -> str:
    """The table, then versions and settings."""
    ours = engines["ganger"]["figures"]["tasks_per_s"]
    rows = [("", "tasks/s", "Ganger does", *(head for head, _ in COLUMNS[1:]))]
    notes = []
    for engine in sorted(engines.values(), key=lambda one: -one.get("figures", {}).get("tasks_per_s", 0)):
        figures = engine.get("figures")
        if figures is None:
            notes.append(f"{engine['label']}: not measured: {engine.get('absent') or engine.get('error')}")
            continue
        times = "" if engine is engines["ganger"] else f"{ours / figures['tasks_per_s']:.1f} ×"
        cells = [_number(figures[name]) for _, name in COLUMNS]
        rows.append((engine["label"], cells[0], times, *cells[1:]))
        versions = ", ".join(f"{name} {version}" for name, version in engine["versions"].items())
        notes.append(f"{engine['label']}: {versions}; {engine['settings']}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) if not at else cell.rjust(width)
                       for at, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    return "\n".join([*lines, "", *notes])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 20 else f"{value:.1f}"
