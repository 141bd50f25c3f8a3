"""The promises, checked after every event. A broken one ends the world.

1. A task that was submitted is in exactly one place, the one that its status names.
2. Two runs of a task never overlap on one host, nor on two hosts unless a whole host stood still.
3. A run ends once, a task ends once, and its outcome is what its worker said.
4. The death of a worker is charged to its task; nothing is charged for what the engine did.
5. When nothing fails any more, every task ends, and in a way that its kind allows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from engine.core.task.lifecycle import FINAL, Move, TaskStatus
from engine.core.task.lost_run import RESCUES_MAX
from engine.testing.model.store import ModelStore, Observer

S = TaskStatus


class BrokenPromise(Exception):
    """The engine has not kept a promise."""


@dataclass(slots=True)
class Start:
    """A worker began a run."""

    host: str
    worker: str
    at_s: float
    ended_s: float | None = None
    how: str = ""  # the verdict of the worker, or "died", "killed", "stranded"
    is_being_killed: bool = False  # the pool had asked for its worker's end


@dataclass(slots=True)
class TaskHistory:
    """What is known of a task."""

    kind: str
    is_confirmed: bool = False  # the client knows that it was submitted
    is_cancelled: bool = False  # a client asked for it
    starts: dict[int, list[Start]] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)  # run -> move that was accepted
    is_over: bool = False


class Ledger(Observer):
    def __init__(self, now_s: Callable[[], float], trace: Callable[[str], None]) -> None:
        self.now_s, self.trace = now_s, trace
        self.histories: dict[str, TaskHistory] = {}
        self.touched: set[str] = set()  # since it looked last
        self.commands: dict[str, str] = {}  # that have to be obeyed -> by which supervisor
        self.obeyed: set[str] = set()
        self.suspensions: list[tuple[str, float, float]] = []  # host, from, to: it, or the processes that watch over it
        self.counts: dict[str, int] = {}

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # -- what workers do ------------------------------------------------------------------------------------------

    def started(self, task_id: str, run: int, host: str, worker: str) -> Start:
        history, now_s = self.histories[task_id], self.now_s()
        for number, starts in history.starts.items():
            for other in starts:
                if other.ended_s is None and not self._may_overlap(other, host, now_s):
                    raise BrokenPromise(f"run {run} of {task_id} starts in {worker} on {host} at {now_s:.3f} while run "
                                 f"{number} goes on in {other.worker} on {other.host}")
        if run in history.starts:
            raise BrokenPromise(f"run {run} of {task_id} starts twice")
        start = Start(host, worker, now_s)
        history.starts.setdefault(run, []).append(start)
        self.count("runs")
        return start

    def ended(self, start: Start, how: str) -> None:
        start.ended_s, start.how = self.now_s(), how

    def _may_overlap(self, other: Start, host: str, now_s: float) -> bool:
        """Whether the other run may go on: a suspended host cannot end its runs in time, and no other host knows."""
        if other.host == host:
            return False
        return any(name == other.host and begin_s <= now_s and end_s >= other.at_s
                   for name, begin_s, end_s in self.suspensions)

    def heard(self, command: str) -> None:
        if command in self.obeyed:
            raise BrokenPromise(f"{command} is obeyed twice")
        if self.commands.pop(command, None):
            self.obeyed.add(command)

    def forgotten(self, supervisor: str) -> None:
        """It has left, was killed, or its lease is over. Its commands are forgotten with it."""
        self.commands = {command: to for command, to in self.commands.items() if to != supervisor}

    # -- what Redis does ------------------------------------------------------------------------------------------

    def changed(self, task_id: str) -> None:
        self.touched.add(task_id)

    def claimed(self, task_id: str, run: int, by: str) -> None:
        self.trace(f"redis: {by} claims {task_id[-3:]} run {run}")

    def moved(self, task_id: str, run: int, move: Move, charged_to: str, by: str, outcome: bytes) -> None:
        history = self.histories[task_id]
        self.trace(f"redis: {task_id[-3:]} run {run} {move} {charged_to} by {by}")
        self.count(f"{move} {charged_to}")
        if move is Move.PROMOTE:
            return
        if run and run in history.ends and by not in ("cancel", "expire", "claim"):
            raise BrokenPromise(f"run {run} of {task_id} ends with {move}, and had ended with {history.ends[run]}")
        if history.is_over:
            raise BrokenPromise(f"{task_id} ends twice")
        history.ends[run] = move
        history.is_over = move not in (Move.RELEASE, Move.RETRY)
        if by in ("rescue", "sync_held_runs", "cancel", "expire", "claim"):
            if charged_to != "nobody":
                raise BrokenPromise(f"{by} charges {charged_to}")
            if by == "sync_held_runs" and run in history.starts:
                raise BrokenPromise(f"{task_id} run {run} was released by sync_held_runs though it had started")
        else:
            self._judge(history, task_id, run, move, charged_to, outcome)

    def _judge(self, history: TaskHistory, task_id: str, run: int, move: Move, charged_to: str, outcome: bytes) -> None:
        """Check that a pool tells the truth about a run."""
        starts = history.starts.get(run, [])
        how = starts[-1].how if starts else "not started"
        was_killed = bool(starts) and starts[-1].is_being_killed
        if starts and starts[-1].ended_s is None:
            raise BrokenPromise(f"{task_id} run {run} is settled with {move} while it goes on")
        cause = orjson.loads(outcome)["cause"] if outcome else ""
        fair = {
            (Move.COMPLETE, "nobody"): how == "C",
            (Move.CANCEL, "nobody"): history.is_cancelled or how == "X",
            (Move.RELEASE, "nobody"): how in ("not started", "stranded", "killed") or was_killed,
            (Move.RETRY, "crash"): how == "died", (Move.FAIL, "crash"): how == "died",
            (Move.RETRY, "attempt"): how in "EFAS" or (cause == "timeout" and was_killed),
            (Move.FAIL, "attempt"): how in "EFAS",
            (Move.TIME_OUT, "attempt"): how == "S" or (bool(starts) and was_killed),
            (Move.RETRY, "nobody"): how == "not started",
            (Move.FAIL, "nobody"): cause == "lease_lost" and (was_killed or how == "stranded"),
        }.get((move, charged_to), False)
        if not fair:
            raise BrokenPromise(f"{task_id} run {run}: {move} {charged_to} ({cause}), but it was {how}"
                         f"{' and its pool killed it' * was_killed}")
        if how == "died" and not was_killed and charged_to != "crash" and not history.is_cancelled:
            raise BrokenPromise(f"{task_id} run {run}: its worker died, and {charged_to} is charged")

    # -- places ---------------------------------------------------------------------------------------------------

    def look(self, store: ModelStore) -> None:
        """Check the places of the tasks that have moved since the last call."""
        for task_id in self.touched:
            self._check_place(store, task_id)
        self.touched.clear()

    def look_at_all(self, store: ModelStore) -> None:
        for task_id, history in self.histories.items():
            if task_id in store.tasks:
                self._check_place(store, task_id)
            elif history.is_confirmed:
                raise BrokenPromise(f"{task_id} was submitted and is lost")

    def _check_place(self, store: ModelStore, task_id: str) -> None:
        state = store.tasks[task_id].state
        places = [f"lane {lane.priority.name}" for lane in store.lanes.waiting() if task_id in lane.ranks]
        places += [f"running {name}" for name, one in store.supervisors.items() if task_id in one.running]
        places += [f"ended {status}" for status, ended in store.ended.items() if task_id in ended]
        places += ["due"] * (task_id in store.due)
        home = {S.QUEUED: f"lane {state.priority.name}", S.RUNNING: f"running {state.owner}", S.PENDING: "due",
                S.RETRYING: "due"}.get(state.status, f"ended {state.status}")
        if places != [home]:
            raise BrokenPromise(f"{task_id} is {state.status} and in {places}")

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self, store: ModelStore, now_ms: float) -> None:
        self.look_at_all(store)
        if self.commands:
            raise BrokenPromise(f"no supervisor got the commands {self.commands}")
        for task_id, task in store.tasks.items():
            history, state, record = self.histories[task_id], task.state, task.record
            if waits_for_long(store, task_id, now_ms):
                continue  # the clock was set back
            if state.status not in FINAL:
                raise BrokenPromise(f"{task_id} ({history.kind}) never ended: {state}")
            rescues = sum(move == Move.RELEASE for move in history.ends.values())
            once = record.options.get("max_deliveries") == 1
            allowed = set(ENDS[history.kind])
            if self.counts.get("stop_worker") or self.counts.get("freeze_host"):
                allowed.add(S.TIMEOUT)
            if history.is_cancelled:
                allowed.add(S.CANCELLED)
            if state.crashes >= 3 or rescues >= RESCUES_MAX or once:
                allowed.add(S.FAILED)
            if state.status not in allowed:
                raise BrokenPromise(f"{task_id} ({history.kind}) ended as {state}")
            if once and len(history.starts) > 1:
                raise BrokenPromise(f"{task_id} must not be started twice, and was as runs {list(history.starts)}")


def waits_for_long(store: ModelStore, task_id: str, now_ms: float) -> bool:
    """Whether a task is to start at a moment that is far away, since the clock was set back."""
    return store.tasks[task_id].state.status is S.PENDING and store.due[task_id] > now_ms + 15_000


ENDS: dict[str, tuple[TaskStatus, ...]] = {
    "quick": (S.COMPLETED,), "short": (S.COMPLETED,), "long": (S.COMPLETED,), "flaky": (S.COMPLETED,),
    "asks": (S.COMPLETED,), "fails": (S.FAILED,), "exits": (S.FAILED,), "hangs": (S.TIMEOUT,), "soft": (S.TIMEOUT,),
    "cancels": (S.CANCELLED, S.TIMEOUT), "expires": (S.COMPLETED, S.FAILED),
}
