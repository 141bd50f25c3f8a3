"""One table of all figures, with their targets."""

from collections.abc import Iterator
from typing import Any

from bench.targets import FIGURES, Figure

Results = dict[str, dict[str, Any]]
HEADS = ("", "figure", "unit", "value", "target", "how far")


def render(results: Results) -> str:
    """The table as text; a benchmark that failed has a row that says why."""
    rows = [HEADS, *_rows(results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = ["  ".join(_cell(text, width, column) for column, (text, width) in enumerate(zip(row, widths, strict=True)))
             for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def missed(results: Results) -> tuple[int, int]:
    """How many figures have missed their target, and how many have one."""
    judged = [figure.met(results[figure.benchmark][figure.name]) for figure in FIGURES
              if figure.target is not None and figure.name in results.get(figure.benchmark, {})]
    return judged.count(False), len(judged)


def _rows(results: Results) -> Iterator[tuple[str, ...]]:
    for name, figures in results.items():
        label = name
        if "error" in figures:
            yield label, "failed", "", "", "", str(figures["error"])[:60]
        listed = [figure for figure in FIGURES if figure.benchmark == name] or [
            Figure(name, key, "") for key, value in figures.items() if isinstance(value, int | float)]
        for figure in listed:
            if figure.name in figures:
                value = figures[figure.name]
                target = "" if figure.target is None else \
                    f"{'≥' if figure.at_least else '≤'} {_number(figure.target)}"
                yield label, figure.name, figure.unit, _number(value), target, figure.distance(value)
                label = ""


def _number(value: float) -> str:
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:.3f}".rstrip("0") if abs(value) < 10 else f"{value:.1f}"


def _cell(text: str, width: int, column: int) -> str:
    return text.rjust(width) if column in (3, 4) else text.ljust(width)
