"""What the processes of an engine have used over the last hour: samples become entries, entries one process's past.

An entry stands for ten seconds and has a row for each process by its name, which holds over restarts, as its pid
does not: "root", "keeper", "pool images", "worker images/3". Whatever a handler starts is left out.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

ENTRY_S = 10.0
HOUR_S = 3600.0
ENTRIES_MAX = int(HOUR_S / ENTRY_S)
FIELDS = ("cpu_percent", "rss_bytes", "pss_bytes", "threads", "open_files", "read_bytes_per_s", "write_bytes_per_s",
          "context_switches_per_s")
_PEAKS = ("rss_bytes", "pss_bytes", "threads", "open_files")  # the others are means
_OURS = "ganger: "
_WORKER = re.compile(r"worker (\d+)")

Sample = Mapping[str, Any]


def names(samples: Mapping[int, Sample]) -> dict[int, str]:
    """The names of those processes that are the engine's own, by pid."""
    titles = {pid: _title(sample) for pid, sample in samples.items()}
    found: dict[int, str] = {}
    for pid, title in titles.items():
        worker = _WORKER.match(title)
        if worker is None:
            if title:
                found[pid] = title
            continue
        server, _, pool = titles.get(samples[pid].get("ppid", 0), "").partition("fork server ")
        if pool and not server:
            found[pid] = f"worker {pool}/{worker[1]}"
    return found


class Recorder:
    """Gathers samples until an entry is made of them."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Sample]] = {}

    def add(self, samples: Mapping[int, Sample]) -> None:
        for pid, name in names(samples).items():
            self._rows.setdefault(name, []).append(samples[pid])

    def take(self, at_ms: int) -> bytes:
        """The entry of what was added since the last one, as JSON: {"at_ms", "rows": {name: values of FIELDS}}."""
        rows, self._rows = self._rows, {}
        return orjson.dumps({"at_ms": at_ms, "rows": {
            name: [_summed_up(field, seen) for field in FIELDS] for name, seen in rows.items()}})


def past(entries: Iterable[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """What one process has used, the oldest first: {"at_ms", and FIELDS}. `entries` come the newest first."""
    found = []
    for entry in entries:
        row = entry["rows"].get(name)
        if isinstance(row, list) and len(row) == len(FIELDS):
            found.append({"at_ms": entry["at_ms"], **dict(zip(FIELDS, row, strict=True))})
    return found[::-1]


def _title(sample: Sample) -> str:
    title = str(sample.get("title") or "").strip()
    return title.removeprefix(_OURS) if title.startswith(_OURS) else ""


def _summed_up(field: str, seen: list[Sample]) -> float | int | None:
    values: list[float] = [value for sample in seen if (value := sample.get(field)) is not None]
    if not values:
        return None
    return max(values) if field in _PEAKS else round(sum(values) / len(values), 1)
