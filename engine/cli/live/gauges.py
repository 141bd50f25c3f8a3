"""Numbers as bars, lines and few characters."""

from collections.abc import Sequence

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"


def bar(share: float, width: int) -> str:
    """A share of the whole, from 0 to 1, in that many columns."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return (_EIGHTHS[8] * whole + (_EIGHTHS[rest] if rest else "")).ljust(width)


def sparkline(values: Sequence[float | None], highest: float | None = None) -> str:
    """A column for each value; a gap where there is none. `highest` is what a full column stands for."""
    top = highest or max((value for value in values if value is not None), default=0.0) or 1.0
    return "".join(" " if value is None else _HEIGHTS[min(7, max(0, int(value / top * 8)))] for value in values)


def brief(seconds: float) -> str:
    """`0.4s`, `12s`, `3m20s`, `5h07m`, `3d4h`: six characters at most below a hundred days."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for (unit, length), (below, part) in zip(
            (("d", 86_400), ("h", 3600), ("m", 60)), (("h", 3600), ("m", 60), ("s", 1)), strict=True):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length}{unit}{rest:02d}{below}" if rest else f"{whole // length}{unit}"
    return f"{whole}s"


def brief_size(count: float | None) -> str:
    """`512B`, `3.2M`, `12G`: five characters at most."""
    if count is None:
        return ""
    for unit in ("B", "K", "M", "G"):
        if count < 1000:
            return f"{count:.1f}{unit}" if unit != "B" and count < 9.95 else f"{count:.0f}{unit}"
        count /= 1024
    return f"{count:.1f}T"
