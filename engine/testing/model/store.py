"""Everything that is kept of tasks, queues and supervisors, and the one function that moves a task."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from engine.core.task.lifecycle import FINAL, IllegalMove, Move, TaskStatus, step
from engine.core.task.record import Record
from engine.core.task.state import StoredState
from engine.errors import MoveRefused, TaskNotFound
from engine.testing.model.lanes import ModelLane, ModelLanes

NO_OWNER = "-"


@dataclass(slots=True, eq=False)
class ModelTask:
    """One task. Only `ModelStore` changes its `state`: status, run, counts, priority, rank, moment and owner."""

    id: str
    record: Record
    state: StoredState
    number: int  # by submission
    outcomes: dict[int, bytes] = field(default_factory=dict)  # run -> JSON
    rescues: int = 0  # runs that were lost with their supervisor and run again
    progress: dict[str, Any] | None = None  # what its run said last
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def fair_key(self) -> str:
        return self.record.options.get("fair_key") or ""

    @property
    def expires_ms(self) -> int | None:
        """The moment after which no run of it starts."""
        return self.record.options.get("expires_ms")

    @property
    def next_end(self) -> int:
        """The run that an end without a run counts for: the latest, or the next one if that has its own end."""
        return self.state.run + (self.state.run in self.outcomes)


@dataclass(slots=True, eq=False)
class ModelSupervisor:
    """What is kept of one supervisor."""

    name: str
    lease_end_ms: int | None = None  # None before its first step
    types: frozenset[str] = frozenset()  # that it can run
    queues: frozenset[str] | None = None  # that it serves; None: all
    running: set[str] = field(default_factory=set)  # ids of the tasks that it runs
    commands: list[bytes] = field(default_factory=list)  # that it has not confirmed
    idle_workers: int = 0
    idle_since_ms: int | None = None  # None while it is not idle
    report: bytes = b""
    last_sync: int = 0  # number of the latest `sync_held_runs` that counted

    @property
    def is_idle(self) -> bool:
        return self.idle_since_ms is not None

    def serves(self, queue: str) -> bool:
        return self.queues is None or queue in self.queues


class Observer:
    """Is told of what happens in a store. Each method may be overridden."""

    def changed(self, task_id: str) -> None:
        """A task was submitted or has moved."""

    def claimed(self, task_id: str, run: int, supervisor: str) -> None: ...

    def moved(self, task_id: str, run: int, move: Move, charged_to: str, by: str, outcome: bytes) -> None:
        """Any other move. `by`: the supervisor that settled the run, else the name of the verb."""

    def forgotten(self, supervisor: str) -> None: ...

    def notify(self, supervisor: str) -> bool:
        """A supervisor has work or a command. Return whether it listens."""
        return False

    def hand_over(self, supervisor: str, task: ModelTask) -> bool:
        """A task goes to an idle supervisor together with its wakeup. Return whether it listens."""
        return False

    def notify_keeper(self) -> None:
        """A moment has come into `due` or `expiring`."""


class ModelStore:
    def __init__(self, observer: Observer, failed_ttl_ms: int) -> None:
        self.observer, self.failed_ttl_ms = observer, failed_ttl_ms
        self.tasks: dict[str, ModelTask] = {}
        self.lanes = ModelLanes()
        self.due: dict[str, int] = {}  # PENDING and RETRYING tasks -> moment
        self.expiring: dict[str, int] = {}  # waiting tasks -> moment after which they are not started
        self.ended: dict[TaskStatus, dict[str, int]] = {status: {} for status in FINAL}  # -> moment of removal
        self.supervisors: dict[str, ModelSupervisor] = {}
        self.queues: set[str] = set()  # every one that was used
        self.idempotency: dict[tuple[str, str], tuple[str, int]] = {}  # queue, key -> id, moment when it is forgotten
        self.cancel_requests: dict[str, tuple[int, str]] = {}  # of running tasks: run, reason
        self.counters: Counter[str] = Counter()
        self.leader: tuple[str, int] | None = None  # keeper, until when

    def get(self, task_id: str) -> ModelTask:
        """Raises `TaskNotFound`."""
        if task_id not in self.tasks:
            raise TaskNotFound(task_id)
        return self.tasks[task_id]

    def supervisor(self, name: str) -> ModelSupervisor:
        if name not in self.supervisors:
            self.supervisors[name] = ModelSupervisor(name)
        return self.supervisors[name]

    def lane_of(self, task: ModelTask) -> ModelLane:
        return self.lanes.lane(task.record.queue, task.state.priority)

    # -- moving a task --------------------------------------------------------------------------------------------

    def move(self, task: ModelTask, move: Move, now_ms: int, changed: StoredState | None = None, *, moment_ms: int = 0,
             owner: str = NO_OWNER) -> TaskStatus:
        """Make a move: take the task out of the place of its old status and put it into that of the new one.

        Args:
            changed: its state with other counters.
            moment_ms: when it is due (RETRYING) or is to be removed (a final status).
            owner: the supervisor that claims it.

        Returns: the new status. Raises `MoveRefused` for a move that the table does not have; then nothing has changed.
        """
        to = self.check(task, move)
        self._take_out(task, move)
        task.state = (changed or task.state)._replace(status=to, at_ms=now_ms, owner=owner)
        self._put_in(task, now_ms, moment_ms)
        self.observer.changed(task.id)
        return to

    def check(self, task: ModelTask, move: Move) -> TaskStatus:
        """The status that the move leads to. Raises `MoveRefused`."""
        try:
            return step(task.state.status, move)
        except IllegalMove:
            raise MoveRefused(task.id, VERBS.get(move, str(move)), task.state.status) from None

    def end_waiting(self, task: ModelTask, move: Move, outcome: bytes, now_ms: int, by: str) -> None:
        """Cancel or expire a task that no run holds. Raises `MoveRefused`."""
        run = task.next_end
        status = self.move(task, move, now_ms, task.state._replace(run=run), moment_ms=now_ms + self.failed_ttl_ms)
        task.outcomes[run] = outcome
        task.progress = None
        self.counters[status] += 1
        self.observer.moved(task.id, run, move, "nobody", by, outcome)

    def place(self, task: ModelTask, now_ms: int) -> None:
        """Put a new task into the place of its status."""
        self.tasks[task.id] = task
        self.queues.add(task.record.queue)
        self._put_in(task, now_ms, task.record.options.get("due_ms", 0))
        if task.expires_ms is not None:
            self.expiring[task.id] = task.expires_ms
            self.observer.notify_keeper()
        self.observer.changed(task.id)

    def remove(self, task_id: str) -> None:
        """Forget a task that has ended."""
        task = self.tasks.pop(task_id)
        del self.ended[task.state.status][task_id]

    def _take_out(self, task: ModelTask, move: Move) -> None:
        match task.state.status:
            case TaskStatus.QUEUED if move is Move.CLAIM:
                self.lane_of(task).claim(task.id)
            case TaskStatus.QUEUED:
                self.lane_of(task).leave(task.id, task.fair_key)
            case TaskStatus.PENDING | TaskStatus.RETRYING:
                del self.due[task.id]
            case TaskStatus.RUNNING:
                self.supervisor(task.state.owner).running.discard(task.id)
                task.progress = None
            case status:
                del self.ended[status][task.id]
        if move is not Move.PROMOTE:  # a task that was claimed once expires again only when it is retried
            self.expiring.pop(task.id, None)

    def _put_in(self, task: ModelTask, now_ms: int, moment_ms: int) -> None:
        match task.state.status:
            case TaskStatus.QUEUED:
                self.line_up(task, now_ms)
            case TaskStatus.PENDING | TaskStatus.RETRYING:
                self.due[task.id] = moment_ms
                self.observer.notify_keeper()
            case TaskStatus.RUNNING:
                self.supervisor(task.state.owner).running.add(task.id)
            case status:
                self.ended[status][task.id] = moment_ms

    def line_up(self, task: ModelTask, now_ms: int) -> None:
        """Put a task into its lane, at its old rank if it has one."""
        lane = self.lane_of(task)
        rank = task.state.rank or lane.give_rank(task.fair_key)
        task.state = task.state._replace(rank=rank)
        lane.insert(task.id, rank, task.number, now_ms)

    # -- supervisors ----------------------------------------------------------------------------------------------

    def wake(self, queue: str, task_type: str | None = None) -> None:
        """Notify one idle supervisor that serves the queue of a new task; the next one if the first does not listen.

        `task_type`: only a supervisor that can run it; None: any.
        """
        for supervisor in self.supervisors.values():
            if supervisor.is_idle and supervisor.serves(queue) and (task_type is None or task_type in supervisor.types):
                supervisor.idle_since_ms = None
                if self.observer.notify(supervisor.name):
                    return

    def send(self, supervisor: str, command: bytes) -> None:
        """Put a command into the queue of a supervisor and wake it."""
        self.supervisor(supervisor).commands.append(command)
        self.observer.notify(supervisor)

    def forget(self, supervisor: str) -> None:
        """A supervisor has left, or was rescued: nothing is kept of it."""
        self.observer.forgotten(supervisor)
        self.supervisors.pop(supervisor, None)


VERBS = {Move.REQUEUE: "retry"}  # as the errors name them
