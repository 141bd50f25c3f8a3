"""Runs the demo: sets everything up in a temporary folder, watches the tasks to their end, takes it all down again."""

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.markup import escape

from engine.client import Client
from engine.client.models import Task
from engine.client.provider import settings_with_redis
from engine.config import Settings, cores
from engine.core.task.lifecycle import TaskStatus
from engine.demo import processes
from engine.demo.findings import DemoFindings, findings
from engine.demo.progress import Display, Tally
from engine.demo.summary import WIDTH_MAX, as_json, show
from engine.demo.tasks import MODULES, DemoTask, choose_demo_tasks
from engine.errors import MoveRefused
from engine.scheduler import Scheduler

TASKS = 320
LOOK_EVERY_S = 0.3
PATIENCE_S = 180.0


def run_demo(*, tasks: int = TASKS, max_workers: int | None = None,
             print_json: Callable[[Any], None] | None = None) -> int:
    """Run the demo and print what came of it; return the exit code: 0 if every task ended as it had to, else 1.

    `tasks` real ones beside the misbehaving ones; `max_workers` (default: the cores, at least 2); `print_json` is given
    one document, which is printed instead of words. Uses a Redis of its own in a temporary folder, whatever the
    settings say, and leaves nothing behind. Raises `EngineError` where there is no Redis to start, with the command
    that installs one.
    """
    console = Console(highlight=False, stderr=print_json is not None)
    demo_tasks = choose_demo_tasks(tasks)
    workers = max_workers or max(2, cores())
    with _ended_by_signals(), _temporary_folder() as folder:
        found, last_processes = _run_all(console, folder, demo_tasks, workers)
        leftovers = processes.still_running(last_processes)
    if print_json is not None:
        print_json(as_json(found, leftovers))
    else:
        show(console, found, leftovers)
    return 1 if found.unexpected or leftovers else 0


def _run_all(console: Console, folder: Path, demo_tasks: Sequence[DemoTask],
             workers: int) -> tuple[DemoFindings, processes.ProcessList]:
    misbehaving = sum(planned.misbehaves for planned in demo_tasks)
    real = len(demo_tasks) - misbehaving
    console.print(f"[bold]Ganger[/bold]: {real} tasks on the files of Python's library, and {misbehaving} that "
                  "misbehave.", width=min(console.width, WIDTH_MAX))
    with settings_with_redis(_settings(folder, workers)) as settings, _engine(settings) as scheduler:
        console.print(f"[dim]Redis and {workers} workers are up; their data is in {escape(str(folder))}[/dim]")
        started_s = time.monotonic()
        ended = _watch(console, scheduler.client, demo_tasks)
        elapsed_s = time.monotonic() - started_s
        last_processes = processes.take(folder, ended)
        about = {name: told.get("about", "") for name, told in scheduler.client.handlers().items()}
    found = findings(demo_tasks, ended, elapsed_s=elapsed_s, workers=workers, about=about)
    found.processes.extend(last_processes.processes)
    found.gone.extend(processes.gone(last_processes, ended))
    return found, last_processes


def _watch(console: Console, client: Client, demo_tasks: Sequence[DemoTask]) -> list[Task]:
    """Submit everything and wait for its end; return the tasks in the order of `demo_tasks`."""
    ids = client.submit_many(planned.submission() for planned in demo_tasks)
    to_cancel = {task_id for task_id, planned in zip(ids, demo_tasks, strict=True) if planned.cancel}
    latest: dict[str, Task] = {}
    give_up_s = time.monotonic() + PATIENCE_S
    with Display(console, len(ids)) as display:
        waiting = list(ids)
        while waiting and time.monotonic() < give_up_s:
            latest.update((task.id, task) for task in client.wait(waiting, timeout=LOOK_EVERY_S))
            waiting = [task_id for task_id in ids if not latest[task_id].status.is_final]
            for task_id in to_cancel.intersection(waiting):
                if latest[task_id].status is TaskStatus.RUNNING:
                    _cancel(client, task_id)
                    to_cancel.discard(task_id)
            display.update(Tally.of(latest.values()))
    return [latest[task_id] for task_id in ids]


def _cancel(client: Client, task_id: str) -> None:
    try:
        client.cancel(task_id, "the demo has seen enough of it")
    except MoveRefused:
        return  # it has ended in between


def _settings(folder: Path, workers: int) -> Settings:
    return Settings(redis_url=None, data_dir=folder, handlers=MODULES, max_workers=workers, log_level="CRITICAL")


@contextmanager
def _engine(settings: Settings) -> Iterator[Scheduler]:
    """A running engine. It is given every setting, so that nobody's file or environment changes the demo."""
    everything: dict[str, Any] = settings.model_dump()
    scheduler = Scheduler(**everything)
    try:
        scheduler.start()
        yield scheduler
    finally:
        scheduler.stop(grace_s=5)
        scheduler.client.close()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """While inside, a closed terminal and SIGTERM end the demo as Ctrl-C does: it takes everything down."""
    def leave(number: int, frame: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)  # a shell may send it again, while we clean up
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # as nohup has it
    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ganger-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
