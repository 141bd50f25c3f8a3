"""`python -m bench compare --isolation`: what hangs, crashes and forks, on Ganger, Celery, RQ and pebble in turn."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import machine, rig
from bench.isolation_scenarios import Figures, Scenarios
from bench.peers import environment
from bench.peers.drive import drive
from bench.peers.peer import PHASE_VARIABLE, URL_VARIABLE
from engine.client import Client

PEERS = ("celery", "rq", "pebble")
LIMIT_S = 1.0
PEER_S_MAX = 300.0
BURN_S = 60.0
WHAT = (
    ("loop", "`while True: pass`"), ("deaf", "… that ignores every exception"), ("in_c", "in C, with the GIL held"))


def measure(runs: int) -> dict[str, dict[str, Any]]:
    """Each engine's label, versions and figures, by name; "error" where it could not be measured."""
    engines = {"ganger": {"label": "Ganger", "versions": machine.describe()["versions"], "figures": _ganger(runs)}}
    for name in PEERS:
        with rig.redis_server() as url:
            variables = {**os.environ, **environment.variables(), URL_VARIABLE: url, PHASE_VARIABLE: "isolation"}
            command = [environment.python(), "-m", "bench.peers.isolation_driver", name, "--runs", str(runs),
                       "--limit-s", str(LIMIT_S)]
            try:
                engines[name] = drive(command, variables, PEER_S_MAX)
            except RuntimeError as error:
                engines[name] = {"label": name, "error": str(error)}
    return engines


NAMES = {"spin": "burn", "moment": "note"}  # of handlers that are called otherwise in other benchmarks


class _Ganger:
    """Sends tasks of `isolation_tasks` by their names."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def send(self, name: str, *arguments: Any, limit_s: float | None = None, urgent: bool = False) -> None:
        payload = dict(zip(("mark", "for_s"), arguments, strict=False))
        priority = "URGENT" if urgent else "LOW" if name == "spin" else "NORMAL"
        self._client.submit(NAMES.get(name, name), payload, timeout=limit_s, priority=priority)


def _ganger(runs: int) -> Figures:
    scenarios: tuple[Callable[[Scenarios], Figures], ...] = (
        lambda scenarios: {key: value for name, _ in WHAT for key, value in scenarios.hang(name, runs).items()},
        Scenarios.orphans, lambda scenarios: scenarios.storm(2 * runs), lambda scenarios: _urgent(scenarios, runs))
    figures: Figures = {}
    for scenario in scenarios:
        with _running() as peer, tempfile.TemporaryDirectory(prefix="ganger-bench-") as folder:
            figures |= scenario(Scenarios(peer, Path(folder), LIMIT_S))
    return figures


def _urgent(scenarios: Scenarios, runs: int) -> Figures:
    """All behind one task of a minute."""
    return scenarios.urgent(runs, BURN_S, anew=False)


@contextmanager
def _running() -> Iterator[_Ganger]:
    with rig.redis_server() as url, rig.engine(
            url, max_workers=1, handlers=["bench.isolation_handlers"], handler_intensity=0,
            log_level="ERROR") as scheduler:
        yield _Ganger(scheduler.client)


def render(engines: dict[str, dict[str, Any]]) -> str:
    """A row for each thing that was measured, a column for each engine."""
    there = [engine for engine in engines.values() if "figures" in engine]
    rows = [("", *(str(engine["label"]) for engine in there))]
    for name, words in WHAT:
        rows.append((f"{words}: dead, ms after the deadline", *(_death(one["figures"], name) for one in there)))
        rows.append(("  next task, ms after that", *(_pair(one["figures"], f"{name}_replaced_ms") for one in there)))
    rows.append(("a child of it outlives the timeout", *(
        "yes" if one["figures"].get("orphans") else "no" for one in there)))
    rows.append(("crashes a second", *(f"{one['figures']['storm_crashes_per_s']:.1f}" for one in there)))
    rows.append(("urgent, behind a task that burns CPU: start, ms", *(
        _pair(one["figures"], "urgent_start_ms") for one in there)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) if at else cell.ljust(width)
                       for at, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    notes = [f"{one['label']}: {', '.join(f'{name} {number}' for name, number in one['versions'].items())}"
             for one in there if one["label"] != "Ganger"]
    failed = [f"{one['label']}: not measured: {one['error']}" for one in engines.values() if "error" in one]
    return "\n".join([*lines, "", "Medians / longest.", *notes, *failed])


def _death(figures: Figures, name: str) -> str:
    after_s = figures.get(f"{name}_not_dead_after_s")
    return _pair(figures, f"{name}_death_ms") if after_s is None else f"> {after_s * 1e3:,.0f}"


def _pair(figures: Figures, name: str) -> str:
    median, longest = figures.get(f"{name}_p50"), figures.get(f"{name}_max")
    return "–" if median is None or longest is None else f"{median:,.1f} / {longest:,.1f}"
