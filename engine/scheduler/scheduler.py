"""The Scheduler: handlers in, a running engine, tasks and results, all from one script.

    scheduler = get_scheduler()
    scheduler.register_handler("my_task", my_handler)
    scheduler.start()
    task_id = scheduler.create_task(task_type="my_task", payload={"data": "test"})
    scheduler.result(task_id, wait=10)
    scheduler.stop()

No `if __name__ == "__main__"` is needed: the fork server executes the script up to
`start()`, which ends it there, and has its functions.
"""

import atexit
from collections.abc import Callable
from functools import cached_property
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Unpack

from engine.adapters.standard_streams import open_closed
from engine.client.short_verbs import ShortVerbs
from engine.errors import BrokerError, EngineError, GangerError, InvalidSetting
from engine.tasks.handler import NO_PAYLOAD, REGISTRY, HandlerSpec, register
from engine.tasks.import_guard import check_start, check_use, collecting

if TYPE_CHECKING:
    from engine.client import Client
    from engine.client.models import SchedulerStatus
    from engine.client.queues import QueuesClient
    from engine.client.tasks import TasksClient
    from engine.config import Loaded, Settings
    from engine.core.task.lifecycle import TaskStatus
    from engine.scheduler.tree import Tree
    from engine.tasks.options import HandlerOptions, SubmitOptions

_STARTUP_S = 30.0  # for Redis and the pools, beside the import of the handlers
_ENDING_S = 15.0  # for the tree to end once its runs have


class Scheduler(ShortVerbs):
    """An engine that lives as long as this process.

    1. registers handlers, until it is started;
    2. starts the tree of processes and says why, when that fails;
    3. passes tasks to a client of the same Redis;
    4. stops the tree: on `stop`, at the end of the script, and when the script is killed.

    Overrides are settings by name (`max_workers=2`, `redis_url="redis://…"`, `task_timeout=60` …); they go before
    the configuration file and the environment.
    """

    def __init__(self, **overrides: Any) -> None:
        self.overrides = overrides
        self._lock = RLock()
        self._tree: Tree | None = None
        self._before: Client | None = None  # the default client that ours stands in for
        if not collecting():
            _ = self.settings  # what is wrong with them is better known now

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Scheduler owns processes, and cannot be pickled or copied; pass its `client` instead")

    # -- the engine -----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> "Settings":
        return self._loaded.settings

    def register_handler(self, task_type: str, function: Callable[..., Any],
                         **options: "Unpack[HandlerOptions]") -> HandlerSpec:
        """Register a function for tasks of this type; options as for `@handler`. To be called before `start`.

        Raises `InvalidHandler` for a lambda, a closure, a method or a function of an interactive session, which
        a worker process could not find; `InvalidOption`; `EngineError` while the engine runs.
        """
        if self.is_running:
            raise EngineError(f"cannot register {task_type!r} while the engine runs: its workers have loaded their "
                              "handlers. Register it before start(), or between stop() and start().")
        return register(task_type, function, **options)

    def start(self) -> None:
        """Start the engine; return when its workers are ready. Does nothing if it runs.

        Raises `EngineError` with the reason when it does not start: the traceback of a handler's import, say. Also in
        a worker, and in a process of multiprocessing that executes the main script again: see
        `engine/tasks/import_guard.py`.
        """
        check_start()
        with self._lock:
            if self.is_running:
                return
            from engine.client import set_default_client
            from engine.scheduler.bootstrap import document
            from engine.scheduler.tree import Tree

            open_closed()  # before any other descriptor is opened, which all processes of the engine would print to
            self._check_redis()
            self._tree = tree = Tree(document(self._settings_of_tree(), REGISTRY))
            atexit.register(self._at_exit)
            try:
                failures = tree.await_ready(self.settings.boot_timeout_s + _STARTUP_S)
                if failures and not self.settings.allow_missing_handlers:
                    raise EngineError("the engine did not start, because not all handlers can be imported:\n" +
                                      "\n".join(f"{name}: {trace}" for name, trace in failures.items()))
            except BaseException:
                self.stop(grace_s=0)
                raise
            self._before = set_default_client(self.client)

    def stop(self, grace_s: float | None = None) -> None:
        """Stop the engine: what runs may finish within `grace_s` (default: the setting `shutdown_grace_s`), or is
        given back to its queue. Results stay readable. Does nothing if it does not run.
        """
        with self._lock:
            tree, self._tree = self._tree, None
            if tree is None:
                return
            atexit.unregister(self._at_exit)
            from engine.client.default import default_client_is, set_default_client

            if default_client_is(self.client):
                set_default_client(self._before)
            tree.stop(self.settings.shutdown_grace_s + _ENDING_S if grace_s is None else grace_s)

    def restart(self) -> None:
        """Stop and start: loads the handlers anew."""
        self.stop()
        self.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the engine has ended, or `timeout` seconds; say whether it has."""
        tree = self._tree
        return tree is None or tree.join(timeout)

    @property
    def is_running(self) -> bool:
        return self._tree is not None and self._tree.exit_code is None

    def status(self) -> "SchedulerStatus":
        """What the engine does: its state, its pools with their workers, and how many tasks there are by status."""
        from engine.client.models import SchedulerStatus

        tree = self._tree
        if tree is None:
            return SchedulerStatus(state="stopped")
        if tree.exit_code is not None:
            return SchedulerStatus(state="failed", exit_code=tree.exit_code)
        try:
            pools = [report for report in self.client.workers() if report.get("root_pid") == tree.pid]
            tasks = self.client.counts()
        except BrokerError as error:
            return SchedulerStatus(state="running", pid=tree.pid, redis_error=str(error))
        slots = [slot for report in pools for slot in report.get("slots", [])]
        return SchedulerStatus(
            state="running", pid=tree.pid, pools=pools, workers=sum(slot["pid"] is not None for slot in slots),
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
        """A client of this engine's Redis; the scheduler's own verbs for tasks are the client's."""
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

        return load_settings(self.overrides)

    def _settings_of_tree(self) -> "Settings":
        """A script's own output should not drown: the tree warns, unless the user has set a level."""
        if self._loaded.sources["log_level"] == "default":
            return self.settings.model_copy(update={"log_level": "WARNING"})
        return self.settings

    def _check_redis(self) -> None:
        """The tree would wait for a Redis that is away; who starts one wants to know."""
        try:
            self.client.handlers()
        except BrokerError as error:
            raise EngineError(f"the engine was not started: {error}") from error

    def _at_exit(self) -> None:
        try:
            self.stop()
        except GangerError as error:
            import logging

            logging.getLogger("ganger.errors").error("the engine did not stop in good order: %s", error)


class _Only:
    lock = RLock()
    scheduler: Scheduler | None = None


def get_scheduler(**overrides: Any) -> Scheduler:
    """The scheduler of this process, made at the first call with these settings as overrides.

    Raises `InvalidSetting`, also where a later call wants other settings: then use `Scheduler(…)`.
    """
    with _Only.lock:
        if _Only.scheduler is None:
            _Only.scheduler = Scheduler(**overrides)
        elif overrides and overrides != _Only.scheduler.overrides:
            raise InvalidSetting("the scheduler of this process has been made with other settings; call "
                                 "get_scheduler() without any, or make another one with Scheduler(…)", field="settings",
                                 value=", ".join(overrides), limit="the settings of the first call")
        return _Only.scheduler
