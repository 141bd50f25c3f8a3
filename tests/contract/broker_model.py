"""What Redis should have by the reference model, and what a dump of its keys says that it has, in one shape."""

from typing import Any

from engine.core.task.lifecycle import FINAL, TaskStatus
from engine.core.task.state import StoredState
from engine.testing.model import ReferenceModel
from engine.testing.model.store import ModelTask

S = TaskStatus
VERDICTS = ("complete nobody", "fail attempt", "fail crash", "time_out attempt", "cancel nobody", "retry attempt",
            "retry crash", "release nobody")  # what a supervisor may say of a run


def expected(model: ReferenceModel) -> dict[str, Any]:
    """Everything but moments and events."""
    store, places = model.store, dict[str, set[bytes]]()
    for task_id, task in store.tasks.items():
        places.setdefault(_home(task), set()).add(task_id.encode())
    return {
        "tasks": {task_id.encode() for task_id in store.tasks},
        "states": {task_id: _compared(task.state) for task_id, task in store.tasks.items()},
        "places": places,
        "expiring": {task_id.encode() for task_id in store.expiring},
        "outcomes": {f"{task_id}:{run}".encode() for task_id, task in store.tasks.items() for run in task.outcomes},
        "rescues": {task_id.encode(): str(task.rescues).encode()
                    for task_id, task in store.tasks.items() if task.rescues},
        "commands": {name: len(one.commands) for name, one in store.supervisors.items() if one.commands},
        "cancel requests": {task_id.encode(): f"{run} {reason}".encode()
                            for task_id, (run, reason) in store.cancel_requests.items()},
        "idempotency": {f"{queue}:{key}": task_id.encode() for (queue, key), (task_id, _) in store.idempotency.items()},
        "paused": {queue.encode() for queue in store.lanes.paused},
        "counters": {what.encode(): str(count).encode() for what, count in store.counters.items() if count}}


def found(state: dict[str, Any], prefix: str, model: ReferenceModel) -> dict[str, Any]:
    """The same of a database. A task that was never claimed has no state of its own: its record has its priority."""
    here = {key.removeprefix(prefix): value for key, value in state.items()}
    ranks = {member: int(score) for key, value in here.items() if key.startswith("lane:") for member, score in value}
    states = {}
    for member in here.get("tasks", {}):
        if member in here.get("states", {}):
            state = StoredState.parse(here["states"][member])
            assert member not in ranks or ranks[member] == state.rank
        else:
            priority = model.store.tasks[member.decode()].record.priority
            state = StoredState(S.QUEUED, priority=priority, rank=ranks[member])
        states[member.decode()] = _compared(state)
    return {
        "tasks": set(here.get("tasks", {})), "states": states,
        "places": _places(here),
        "expiring": _members(here.get("expiring", [])), "outcomes": set(here.get("outcomes", {})),
        "rescues": here.get("rescues", {}),
        "commands": {key.removeprefix("commands:"): len(value) for key, value in here.items()
                     if key.startswith("commands:")},
        "cancel requests": here.get("cancel_requests", {}),
        "idempotency": {key.removeprefix("idempotency:"): value for key, value in here.items()
                        if key.startswith("idempotency:")},
        "paused": {queue for queue, state in here.get("queues", {}).items() if state == b"paused"},
        "counters": here.get("counters", {})}


def _compared(state: StoredState) -> StoredState:
    """Without its moment; and without its rank once it has ended, since nothing depends on it then."""
    return state._replace(at_ms=0, rank=0 if state.status in FINAL else state.rank)


def _home(task: ModelTask) -> str:
    """The one collection that has it."""
    status = task.state.status
    if status is S.QUEUED:
        return f"lane:{task.record.queue}:{task.state.priority.name}"
    if status is S.RUNNING:
        return f"running:{task.state.owner}"
    return f"ended:{status}" if status in FINAL else "due"


def _places(here: dict[str, Any]) -> dict[str, set[bytes]]:
    """What has ids. Whether a task waits in its lane or aside depends on who has met it there, so both are one."""
    places: dict[str, set[bytes]] = {}
    for key, value in here.items():
        if key == "due" or key.startswith(("lane:", "ended:", "running:")):
            home = ":".join(key.split(":")[:3])
            assert not places.get(home, set()) & _members(value), f"in two places: {key}"
            places.setdefault(home, set()).update(_members(value))
    return places


def _members(value: Any) -> set[bytes]:
    return value if isinstance(value, set) else {member for member, _ in value}
