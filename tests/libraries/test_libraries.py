"""Each row of docs/libraries.md, with the library itself: ./dev libraries installs them and runs this.

`cold` is imported at the top of the module and first used in a handler; `warm` is used at import too. Workers have two
threads of their own each, with which more libraries hang than with one.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import orjson
import pytest

from engine.core.worker import inherited_state
from engine.core.worker.start_method import Starting
from engine.ports.host import Exited, Replied
from tests.integration.process.host_harness import HostHarness
from tests.libraries.library_handlers import CALLS

HANDLERS = "tests.libraries.library_handlers"
HANG_TURNS, TURN_S = 40, 0.1
UNSAFE = ("polars", "torch", "sklearn", "lightgbm", "xgboost", "zstandard", "numba")  # when used before the fork
FORK = Starting()
PACKAGES = {"pandas": "pyarrow"}
LIBRARIES = sorted(CALLS)


def here(*libraries: str) -> list[Any]:
    """The libraries as parameters; those that are not installed skip, and say so."""
    return [pytest.param(name, marks=pytest.mark.skipif(
        importlib.util.find_spec(PACKAGES.get(name, name)) is None, reason=f"{name} is not installed"))
        for name in libraries]


@contextmanager
def workers(how: str, library: str, starting: Starting = FORK) -> Iterator[HostHarness]:
    harness = HostHarness(HANDLERS, environment={f"{how.upper()}_LIBRARY": library}, threads=2, starting=starting)
    harness.ready = harness.start()  # type: ignore[attr-defined]
    try:
        yield harness
    finally:
        harness.close()


@cache
def plain(library: str) -> float:
    """What a process without any fork gets."""
    program = f"from tests.libraries.library_handlers import CALLS; print(CALLS[{library!r}]())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50)
    return float(done.stdout.split()[-1])


def results(harness: HostHarness, library: str) -> list[Any]:
    for slot in (0, 1):
        harness.up(slot)
    return [harness.run("use", library, slot=slot)[1]["result"] for slot in (0, 1)]


def end_of(harness: HostHarness, token: int) -> str:
    """How a run ends: with its result, dead, or not at all, which takes four seconds to believe."""
    for _ in range(HANG_TURNS):
        harness.turn(TURN_S)
        for event in harness.events:
            if isinstance(event, Replied) and event.token == token:
                return str(orjson.loads(event.outcome)["result"])
            if isinstance(event, Exited):
                return "dies"
    return "hangs"


@pytest.mark.parametrize("library", here(*LIBRARIES))
def test_imported_at_the_top_and_used_in_a_handler_it_works(library: str) -> None:
    with workers("cold", library) as harness:
        assert results(harness, library) == [pytest.approx(plain(library))] * 2


@pytest.mark.parametrize("library", here(*UNSAFE))
def test_used_before_the_fork_it_does_not_work_and_the_fork_server_warns_of_it(library: str) -> None:
    """Most hang; numba ends the process, or gives a wrong result, as its layer of threads is."""
    with workers("warm", library) as harness:
        warned = inherited_state.threads_text(harness.ready.inherited)  # type: ignore[attr-defined]
        assert warned, "nobody was warned"
        harness.up()
        end = end_of(harness, harness.send("use", library))
        assert end != str(plain(library)), "it works: tell so in docs/libraries.md"


@pytest.mark.parametrize("library", here(*(name for name in LIBRARIES if name not in UNSAFE)))
def test_used_before_the_fork_it_works_and_is_not_warned_of(library: str) -> None:
    with workers("warm", library) as harness:
        assert results(harness, library) == [pytest.approx(plain(library))] * 2
        assert inherited_state.warnings(harness.ready.inherited) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("starting", [Starting("spawn"), Starting("fork", preload=False)], ids=["spawn", "no preload"])
@pytest.mark.parametrize("library", here(*UNSAFE))
def test_in_workers_that_import_it_themselves_it_works_however_it_is_used(library: str, starting: Starting) -> None:
    with workers("warm", library, starting) as harness:
        assert results(harness, library) == [pytest.approx(plain(library))] * 2
