"""One run in this process, by the worker's own code: reads the payload, calls the handler, writes the outcome.

What it leaves out is what needs a process of its own: kills, memory limits, captured output.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from engine.adapters.process.forkserver.handler_table import LoadedHandler
from engine.adapters.process.worker.outcomes import OutcomeWriter, RunFacts, refused
from engine.core.worker.frames import COMPLETED
from engine.tasks.context import Context
from engine.testing.book import Entry

WORKER = "inline"


class Ended(NamedTuple):
    """A run that is over: a verdict of `core.frames`, and the outcome as it is stored."""

    verdict: bytes
    outcome: dict[str, Any]


def execute(entry: Entry, handler: LoadedHandler, outcomes: OutcomeWriter, now_ms: Callable[[], int],
            timeout_s: float) -> Ended:
    """Run the task of `entry`. KeyboardInterrupt passes through; anything else that is raised ends the run."""
    started_ms = now_ms()
    run = entry.life.run

    def wall_s() -> float:
        return (now_ms() - started_ms) / 1000

    try:
        with _kept_log(entry, now_ms):
            returned = handler.function(*_arguments(entry, handler, now_ms, timeout_s))
        result = outcomes.result(returned)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  as in a worker, whatever leaves a handler ends the run
        facts = RunFacts(run, started_ms, now_ms(), wall_s(), 0.0, 0, 0)
        verdict, body = outcomes.failed(handler, error, facts)
        return Ended(verdict, orjson.loads(body))
    body = outcomes.completed(run, result, started_ms, now_ms(), wall_s(), 0.0, 0, 0)
    return Ended(COMPLETED, orjson.loads(body))


def _arguments(entry: Entry, handler: LoadedHandler, now_ms: Callable[[], int], timeout_s: float) -> tuple[Any, ...]:
    given: tuple[Any, ...] = ()
    if handler.takes_payload:
        try:
            given = (handler.parse(entry.record.payload),)
        except Exception as error:  # a model's validators are the user's code
            raise refused(error) from error
    if not handler.wants_context:
        return given

    def report(fraction: float | None, message: str) -> None:
        entry.progress = {"fraction": fraction, "message": message, "at_ms": now_ms(), "run": entry.life.run}

    name = entry.record.options.get("name", entry.record.task_type)
    return (*given, Context(entry.id, entry.record.task_type, name, entry.life.run, entry.life.attempts + 1,
                            _report=report))


@contextmanager
def _kept_log(entry: Entry, now_ms: Callable[[], int]) -> Iterator[None]:
    """Keep what the handler logs, as a worker does; what it prints is left to pytest."""

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entry.rows.append({"at_ms": now_ms(), "run": entry.life.run, "stream": "log", "level": record.levelname,
                               "text": record.getMessage()})

    keeper, root = Keeper(), logging.getLogger()
    root.addHandler(keeper)
    try:
        yield
    finally:
        root.removeHandler(keeper)
