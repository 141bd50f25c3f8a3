"""The Scheduler: handlers in, a running engine, tasks and results, all from one script.

    scheduler = get_scheduler()
    scheduler.register_handler("my_task", my_handler)
    scheduler.start()
    task_id = scheduler.create_task(task_type="my_task", payload={"data": "test"})
    scheduler.result(task_id, wait=10)
    scheduler.stop()

No `if __name__ == "__main__"` is needed: the fork server executes the script too, but only up to `start()`, and takes
the functions from it.
"""

import atexit
from collections.abc import Callable
from functools import cached_property
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

from engine.adapters.kernel.terminal import open_closed
from engine.client.short_verbs import ShortVerbs
from engine.errors import BrokerError, EngineError, GangerError, InvalidSetting
from engine.tasks.handler import register
from engine.tasks.handler_spec import NO_PAYLOAD, REGISTRY, HandlerSpec
from engine.tasks.import_guard import check_start, check_use, collecting

if TYPE_CHECKING:
    from engine.client import Client
    from engine.client.models import EngineStatus
    from engine.client.queues import QueuesClient
    from engine.client.tasks import TasksClient
    from engine.config import Loaded, Settings
    from engine.core.task.lifecycle import TaskStatus
    from engine.scheduler.engine_process import EngineProcess
    from engine.tasks.options import HandlerOptions, SubmitOptions

_STARTUP_S = 30.0  # for Redis and the pools, beside the import of the handlers
_ENDING_S = 15.0  # for the engine to end once its runs have ended


class Scheduler(ShortVerbs):
    """An engine that lives as long as this process.

    1. It registers handlers, until it is started.
    2. It starts the processes of the engine, and says why when they do not start.
    3. It passes tasks to a client of the same Redis; `client` is that client.
    4. It stops the engine: on `stop`, at the end of the script, and when the script is killed.
    """

    def __init__(self, **overrides: Any) -> None:
        """Start nothing yet.

        Args:
            **overrides: settings by name (`max_workers=2`, `redis_url="redis://…"`, `task_timeout=60` …); they go
                before the configuration file and the environment.

        Raises:
            InvalidSetting: a setting has no such name or value.
        """
        self.overrides = overrides
        self._lock = RLock()
        self._process: EngineProcess | None = None
        self._client_before: Client | None = None  # the default client while the engine does not run
        if not collecting():
            _ = self.settings  # a wrong setting is better known now than at the start

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Scheduler owns processes, and cannot be pickled or copied; pass its `client` instead")

    # -- the engine -----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> "Settings":
        """All settings, with the overrides."""
        return self._loaded.settings

    def register_handler(self, task_type: str, function: Callable[..., Any],
                         **options: "Unpack[HandlerOptions]") -> HandlerSpec:
        """Register a function for tasks of this type, before `start`.

            scheduler.register_handler("thumbnail", make_thumbnail, timeout=30, max_retries=3)

        Args:
            task_type: the name that `submit` is given.
            function: a function at the top level of a file.
            **options: as for `@handler`; times are in seconds.

        Returns:
            What is known of the handler.

        Raises:
            InvalidHandler: a lambda, a closure, a method or a function of an interactive session, which a worker
                process could not find.
            InvalidOption: an option has no such name or value.
            EngineError: the engine runs.
        """
        if self.is_running:
            raise EngineError(f"cannot register {task_type!r} while the engine runs: its workers have loaded their "
                              "handlers. Register it before start(), or between stop() and start().")
        return register(task_type, function, **options)

    def start(self) -> None:
        """Start the engine; return when its workers are ready. Does nothing if it runs.

        Raises:
            EngineError: it does not start; the message has the reason, such as the traceback of a handler's import.
                Also in a worker, and in a process of multiprocessing that executes the main script again: see
                `engine/tasks/import_guard.py`.
        """
        check_start()
        with self._lock:
            if self.is_running:
                return
            from engine.client import set_default_client
            from engine.scheduler.bootstrap_document import bootstrap_document
            from engine.scheduler.engine_process import EngineProcess

            open_closed()  # before any other descriptor is opened, which all processes of the engine would print to
            self._check_redis()
            self._process = process = EngineProcess(bootstrap_document(self._settings_of_engine(), REGISTRY))
            atexit.register(self._stop_at_exit)
            try:
                failures = process.await_ready(self.settings.boot_timeout_s + _STARTUP_S)
                if failures and not self.settings.allow_missing_handlers:
                    raise EngineError("the engine did not start, because not all handlers can be imported:\n" +
                                      "\n".join(f"{name}: {trace}" for name, trace in failures.items()))
            except BaseException:
                self.stop(grace_s=0)
                raise
            self._client_before = set_default_client(self.client)

    def stop(self, grace_s: float | None = None) -> None:
        """Stop the engine. Results stay readable. Does nothing if it does not run.

        Args:
            grace_s: how many seconds the runs have to finish (default: the setting `shutdown_grace_s`); a task whose
                run does not finish is given back to its queue.
        """
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            atexit.unregister(self._stop_at_exit)
            from engine.client.default import default_client_is, set_default_client

            if default_client_is(self.client):
                set_default_client(self._client_before)
            process.stop(self.settings.shutdown_grace_s + _ENDING_S if grace_s is None else grace_s)

    def restart(self) -> None:
        """Stop the engine and start it, so that it loads the handlers again. Raises `EngineError` as `start` does."""
        self.stop()
        self.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the engine has ended, or `timeout` seconds (None: without end); return whether it has ended."""
        process = self._process
        return process is None or process.join(timeout)

    @property
    def is_running(self) -> bool:
        """Whether the processes of the engine run."""
        return self._process is not None and self._process.exit_code is None

    def status(self) -> "EngineStatus":
        """Return the state of the engine, its pools with their workers, and the number of tasks in each status."""
        from engine.client.models import EngineStatus

        process = self._process
        if process is None:
            return EngineStatus(state="stopped")
        if process.exit_code is not None:
            return EngineStatus(state="failed", exit_code=process.exit_code)
        try:
            pools = [report for report in self.client.workers() if report.get("root_pid") == process.pid]
            tasks = self.client.counts()
        except BrokerError as error:
            return EngineStatus(state="running", pid=process.pid, redis_error=str(error))
        slots = [slot for report in pools for slot in report.get("slots", [])]
        return EngineStatus(
            state="running", pid=process.pid, pools=pools, workers=sum(slot["pid"] is not None for slot in slots),
            busy=sum(slot["state"] == "busy" for slot in slots), tasks=tasks)

    def close(self) -> None:
        """Stop the engine and close the client."""
        self.stop()
        self.client.close()

    def __enter__(self) -> "Scheduler":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    # -- tasks ----------------------------------------------------------------------------------------------------

    @cached_property
    def client(self) -> "Client":
        """A client of this engine's Redis, with all verbs."""
        if collecting():
            check_use("a Client")
        from engine.client import Client

        return Client(settings=self.settings)

    @cached_property
    def tasks(self) -> "TasksClient":
        """The verbs of tasks: `client.tasks`."""
        return self.client.tasks

    @cached_property
    def queues(self) -> "QueuesClient":
        """The verbs of queues: `client.queues`."""
        return self.client.queues

    def create_task(self, task_type: Any, payload: Any = NO_PAYLOAD, **options: "Unpack[SubmitOptions]") -> str:
        """Submit one task; return its id. The same as `submit`."""
        return self.tasks.submit(task_type, payload, **options)

    def task_status(self, task_id: str) -> "TaskStatus":
        """Return the status of a task. Raises `TaskNotFound`."""
        return self.tasks.status(task_id)

    # -- the small parts ------------------------------------------------------------------------------------------

    @cached_property
    def _loaded(self) -> "Loaded":
        from engine.config import load_settings

        return load_settings(self.overrides, are_arguments=True)

    def _settings_of_engine(self) -> "Settings":
        """The engine logs warnings only, unless the user has set a level: a script's own output comes first."""
        if self._loaded.sources["log_level"] == "default":
            return self.settings.model_copy(update={"log_level": "WARNING"})
        return self.settings

    def _check_redis(self) -> None:
        """Refuse to start while Redis is away: the engine would wait for it without a word."""
        try:
            self.client.handlers()
        except BrokerError as error:
            raise EngineError(f"the engine was not started: {error}") from error

    def _stop_at_exit(self) -> None:
        try:
            self.stop()
        except GangerError as error:
            import logging

            logging.getLogger("ganger.errors").error("the engine did not stop in good order: %s", error)


class _ProcessScheduler:
    lock = RLock()
    scheduler: Scheduler | None = None


def get_scheduler(**overrides: Any) -> Scheduler:
    """Return the scheduler of this process, which the first call makes.

        scheduler = get_scheduler(max_workers=2)

    Args:
        **overrides: settings by name, as for `Scheduler`.

    Raises:
        InvalidSetting: a setting is wrong, or a later call has other settings than the first one. `Scheduler(…)` makes
            another scheduler.
    """
    with _ProcessScheduler.lock:
        if _ProcessScheduler.scheduler is None:
            _ProcessScheduler.scheduler = Scheduler(**overrides)
        elif overrides and overrides != _ProcessScheduler.scheduler.overrides:
            raise InvalidSetting("the scheduler of this process has been made with other settings; call "
                                 "get_scheduler() without any, or make another one with Scheduler(…)", field="settings",
                                 value=", ".join(overrides), limit="the settings of the first call")
        return _ProcessScheduler.scheduler
