"""One run in this process, by the worker's own code: reads the payload, calls the handler, writes the outcome.

It leaves out whatever needs a process of its own: kills, memory limits, captured output.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from engine.adapters.process.forkserver.handler_table import LoadedHandler
from engine.adapters.process.worker.outcomes import OutcomeWriter, RunFacts, refused
from engine.core.worker.frames import COMPLETED
from engine.tasks.context import Context
from engine.testing.model.store import ModelTask

WORKER = "inline"


class RunReply(NamedTuple):
    """What a worker says at the end of a run."""

    verdict: bytes  # one of `core/worker/frames.py`
    outcome: bytes  # JSON, as it is stored


def execute(task: ModelTask, handler: LoadedHandler, outcomes: OutcomeWriter, now_ms: Callable[[], int]) -> RunReply:
    """Call the handler. KeyboardInterrupt passes through; anything else that is raised ends the run."""
    started_ms = now_ms()
    run = task.state.run

    def wall_s() -> float:
        return (now_ms() - started_ms) / 1000

    try:
        with _kept_log(task, now_ms):
            returned = handler.function(*_arguments(task, handler, now_ms))
        result = outcomes.result(returned)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  as in a worker, whatever leaves a handler ends the run
        facts = RunFacts(run, started_ms, now_ms(), wall_s(), 0.0, 0, 0)
        return RunReply(*outcomes.failed(handler, error, facts))
    return RunReply(COMPLETED, outcomes.completed(run, result, started_ms, now_ms(), wall_s(), 0.0, 0, 0))


def _arguments(task: ModelTask, handler: LoadedHandler, now_ms: Callable[[], int]) -> tuple[Any, ...]:
    given: tuple[Any, ...] = ()
    if handler.takes_payload:
        try:
            given = (handler.parse(task.record.payload),)
        except Exception as error:  # a model's validators are the user's code
            raise refused(error) from error
    if not handler.wants_context:
        return given

    def report(fraction: float | None, message: str) -> None:
        task.progress = {"fraction": fraction, "message": message, "at_ms": now_ms(), "run": task.state.run}

    name = task.record.options.get("name", task.record.task_type)
    return (*given, Context(task.id, task.record.task_type, name, task.state.run, task.state.attempts + 1,
                            _report=report))


@contextmanager
def _kept_log(task: ModelTask, now_ms: Callable[[], int]) -> Iterator[None]:
    """Keep what the handler logs, as a worker does; what it prints is left to pytest."""

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            task.log.append({"at_ms": now_ms(), "run": task.state.run, "stream": "log", "level": record.levelname,
                               "text": record.getMessage()})

    keeper, root = Keeper(), logging.getLogger()
    root.addHandler(keeper)
    try:
        yield
    finally:
        root.removeHandler(keeper)
