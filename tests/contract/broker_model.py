"""What the broker should be: a dictionary of tasks, and the few moves that change them."""

from dataclasses import dataclass, field
from typing import Any

from engine.core.task.lifecycle import FINAL, TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.state import Life
from tests.scripts.shop import RESCUES_MAX

S = TaskStatus
WAITING = (S.PENDING, S.QUEUED, S.RETRYING)
ENDS = {  # what a supervisor may say of a run: the status that follows, and who pays
    "complete nobody": (S.COMPLETED, 0, 0), "fail attempt": (S.FAILED, 1, 0), "fail crash": (S.FAILED, 0, 1),
    "time_out attempt": (S.TIMEOUT, 1, 0), "cancel nobody": (S.CANCELLED, 0, 0), "retry attempt": (S.RETRYING, 1, 0),
    "retry crash": (S.RETRYING, 0, 1), "release nobody": (S.QUEUED, 0, 0)}


@dataclass
class Task:
    queue: str
    priority: TaskPriority
    status: TaskStatus
    expires: bool
    task_type: str = "t"
    run: int = 0
    attempts: int = 0
    crashes: int = 0
    owner: str = "-"
    rescues: int = 0
    ends: set[int] = field(default_factory=set)  # runs whose outcome is kept

    def end_waiting(self, status: TaskStatus) -> None:
        """Ended while it waited: the end counts for the latest run, or the next one if that has its own."""
        self.run += self.run in self.ends
        self.ends.add(self.run)
        self.status, self.expires = status, False

    def let_go(self, status: TaskStatus) -> None:
        self.status, self.owner = status, "-"

    def home(self) -> str:
        """The one collection that has it."""
        if self.status is S.QUEUED:
            return f"line:{self.queue}:{self.priority.name}"
        if self.status is S.RUNNING:
            return f"held:{self.owner}"
        return f"ended:{self.status}" if self.status in FINAL else "due"


@dataclass
class Model:
    tasks: dict[str, Task] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)  # queue, idempotency key -> id
    letters: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # supervisor -> cancels not taken yet
    paused: set[str] = field(default_factory=set)

    def held(self, supervisor: str) -> dict[str, Task]:
        return {task_id: task for task_id, task in self.tasks.items() if task.owner == supervisor}

    def settles(self, supervisor: str, task_id: str, run: int, verdict: str) -> bool:
        """Whether this settlement is accepted; then it has been."""
        task = self.tasks.get(task_id)
        if task is None or (task.status, task.owner, task.run) != (S.RUNNING, supervisor, run):
            return False
        status, attempts, crashes = ENDS[verdict]
        task.let_go(status)
        task.attempts, task.crashes = task.attempts + attempts, task.crashes + crashes
        if status is not S.QUEUED:
            task.ends.add(run)
        return True

    def rescue(self, supervisor: str) -> None:
        cancelled = self.letters.pop(supervisor, [])
        for task_id, task in self.held(supervisor).items():
            task.ends.add(task.run)
            if (task_id, task.run) in cancelled:
                task.let_go(S.CANCELLED)
            elif task.rescues >= RESCUES_MAX:
                task.let_go(S.FAILED)
            else:
                task.let_go(S.QUEUED)
                task.rescues += 1
                continue
            task.rescues = 0

    # -- what Redis should have -----------------------------------------------------------------------------------

    def expected(self) -> dict[str, Any]:
        """Everything but places, moments, events and counters."""
        places: dict[str, set[bytes]] = {}
        for task_id, task in self.tasks.items():
            places.setdefault(task.home(), set()).add(task_id.encode())
        return {
            "tasks": {task_id.encode() for task_id in self.tasks},
            "lives": {task_id: (task.status, task.run, task.attempts, task.crashes, task.priority, task.owner)
                      for task_id, task in self.tasks.items()},
            "places": places,
            "expiring": {task_id.encode() for task_id, task in self.tasks.items() if task.expires},
            "outcomes": {f"{task_id}:{run}".encode() for task_id, task in self.tasks.items() for run in task.ends},
            "rescues": {task_id.encode(): str(task.rescues).encode()
                        for task_id, task in self.tasks.items() if task.rescues},
            "letters": {name: len(letters) for name, letters in self.letters.items() if letters},
            "idempotency": {f"{queue}:{key}": task_id.encode() for (queue, key), task_id in self.keys.items()},
            "paused": {queue.encode() for queue in self.paused}}


def found(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The same of a database."""
    here = {key.removeprefix(prefix): value for key, value in state.items()}
    lives = {task_id.decode(): (S.QUEUED, 0, 0, 0, None, "-") for task_id in here.get("tasks", {})}
    for task_id, line in here.get("life", {}).items():
        life = Life.parse(line)
        lives[task_id.decode()] = (life.status, life.run, life.attempts, life.crashes, life.priority, life.owner)
    return {
        "tasks": set(here.get("tasks", {})), "lives": lives,
        "places": _places(here),
        "expiring": _members(here.get("expiring", [])), "outcomes": set(here.get("outcomes", {})),
        "rescues": here.get("rescues", {}),
        "letters": {key.removeprefix("orders:"): len(value) for key, value in here.items()
                    if key.startswith("orders:")},
        "idempotency": {key.removeprefix("idempotency:"): value for key, value in here.items()
                        if key.startswith("idempotency:")},
        "paused": {queue for queue, state in here.get("queues", {}).items() if state == b"paused"}}


def _places(here: dict[str, Any]) -> dict[str, set[bytes]]:
    """What has ids. Whether a task waits in its line or aside depends on who has met it there, so both are one."""
    places: dict[str, set[bytes]] = {}
    for key, value in here.items():
        if key == "due" or key.startswith(("line:", "ended:", "held:")):
            home = ":".join(key.split(":")[:3])
            assert not places.get(home, set()) & _members(value), f"in two places: {key}"
            places.setdefault(home, set()).update(_members(value))
    return places


def _members(value: Any) -> set[bytes]:
    return value if isinstance(value, set) else {member for member, _ in value}
