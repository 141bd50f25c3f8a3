"""What a supervisor does: one step settles its runs, claims new ones, renews its lease and reads its commands.

1. settle: a run ends as its supervisor says, if it is that supervisor's run. Its wire code names the move, and what the
   run is charged to: an attempt, a crash, or nothing.
2. claim: it is given the first waiting tasks of types that it knows. One whose `expires` is over ends instead.
3. sync_held_runs, after a lost answer: runs that Redis believes it has, and that it does not know, go back to their
   lanes.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from engine.core.task.lifecycle import MOVES, Move, TaskStatus
from engine.core.task.outcome import Cause, Outcome
from engine.testing.model.store import ModelStore, ModelTask


class RunEnd(NamedTuple):
    """The settlement of one run."""

    task_id: str
    run: int
    wire_code: str  # "move charged_to", such as "retry attempt"
    moment_ms: int  # when it is due (retry) or is to be removed (an end); unused for a release
    outcome: bytes  # JSON; empty for a release


class StepReply(NamedTuple):
    refused: list[tuple[int, str]]  # position of the settlement, GONE | ILLEGAL | STALE | ALREADY
    claimed: list[ModelTask]
    commands: list[bytes]  # each comes again until it is confirmed
    held: int  # how many runs it has now
    types_known: int  # how many it has announced; while there are none, it is given nothing


class SupervisorCalls:
    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def register(self, name: str, types: Collection[str]) -> None:
        """Say which types it can run: it is given no others."""
        self._store.supervisor(name).types = frozenset(types)

    def step(self, name: str, now_ms: int, lease_end_ms: int, settlements: Sequence[RunEnd] = (), *, want: int = 0,
             idle_workers: int | None = None, held: int | None = None, confirmed: bytes = b"", report: bytes = b"",
             queues: frozenset[str] | None = None, ageing_ms: int = 0) -> StepReply:
        """Renew the lease, settle, claim up to `want` tasks, read the commands.

        Args:
            idle_workers: how many workers have nothing to do; None leaves what is noted of that.
            held: how many runs it knows that it has; None: all. A task that was handed over and is on its way counts
                against `want`.
            confirmed: the last command of the answer before: it and those before it do not come again.
            queues: those that it serves; None: all.
        """
        supervisor = self._store.supervisor(name)
        unheard = 0 if held is None else max(0, len(supervisor.running) - held)
        want = max(0, want - unheard) if supervisor.types else 0
        supervisor.lease_end_ms, supervisor.queues = lease_end_ms, queues
        supervisor.report = report or supervisor.report
        refused = self._settle_all(name, settlements, now_ms)
        chosen = self.choose(name, want, now_ms, ageing_ms)
        claimed = self.start(name, chosen, now_ms)
        if len(chosen) < want:  # it has met every task whose type it does not know
            self._wake_others()
            supervisor.idle_workers = max(0, (idle_workers or 0) - unheard - len(chosen))
            supervisor.idle_since_ms = now_ms
        elif idle_workers is not None:
            supervisor.idle_since_ms = None
        if confirmed in supervisor.commands:
            del supervisor.commands[: supervisor.commands.index(confirmed) + 1]
        return StepReply(refused, claimed, supervisor.commands[:], len(supervisor.running), len(supervisor.types))

    # -- settling -------------------------------------------------------------------------------------------------

    def settle(self, name: str, end: RunEnd, now_ms: int) -> str:
        """End one run; return "", or the word of refusal."""
        task = self._store.tasks.get(end.task_id)
        word = self._refusal(name, task, end)
        if word or task is None:
            return word
        store, state, (move, charged_to) = self._store, task.state, end.wire_code.split()
        after = state._replace(attempts=state.attempts + (charged_to == "attempt"),
                              crashes=state.crashes + (charged_to == "crash"))
        status = store.move(task, Move(move), now_ms, after, moment_ms=end.moment_ms)
        if end.outcome:
            task.outcomes[end.run] = end.outcome
        store.counters["released" if status is TaskStatus.QUEUED else status] += 1
        store.observer.moved(task.id, end.run, Move(move), charged_to, name, end.outcome)
        if status is TaskStatus.QUEUED:
            store.wake(task.record.queue)
        return ""

    def _settle_all(self, name: str, settlements: Sequence[RunEnd], now_ms: int) -> list[tuple[int, str]]:
        settled, refused = set[str](), list[tuple[int, str]]()
        for position, end in enumerate(settlements):
            word = "STALE" if end.task_id in settled else self.settle(name, end, now_ms)
            if word:
                refused.append((position, word))
            else:
                settled.add(end.task_id)
        return refused

    def _refusal(self, name: str, task: ModelTask | None, end: RunEnd) -> str:
        if task is None:
            return "GONE"
        move, state = end.wire_code.split()[0], task.state
        to = MOVES[TaskStatus.RUNNING].get(Move(move)) if move in Move.__members__.values() else None
        if to is None:
            return "ILLEGAL"
        if state.run != end.run:
            return "STALE"
        if state.status is not TaskStatus.RUNNING:
            return "ALREADY" if state.status is to else "STALE"
        return "" if state.owner == name else "STALE"

    # -- claiming -------------------------------------------------------------------------------------------------

    def choose(self, name: str, want: int, now_ms: int, ageing_ms: int = 0) -> list[str]:
        """The tasks that it is given next; they still wait."""
        store, supervisor = self._store, self._store.supervisor(name)
        if want <= 0 or not supervisor.types:
            return []


        def can_run(task_id: str) -> bool:
            return store.tasks[task_id].record.task_type in supervisor.types

        return store.lanes.choose(want, now_ms, can_run, queues=supervisor.queues, ageing_ms=ageing_ms)

    def start(self, name: str, task_ids: Sequence[str], now_ms: int) -> list[ModelTask]:
        """Start runs of waiting tasks; those whose `expires` is over end instead. Return those that were started."""
        store, started = self._store, list[ModelTask]()
        for task_id in task_ids:
            task = store.tasks[task_id]
            if store.expiring.get(task_id, now_ms + 1) <= now_ms:
                store.end_waiting(task, Move.EXPIRE, expired_outcome(task, now_ms), now_ms, "claim")
                continue
            store.move(task, Move.CLAIM, now_ms, task.state._replace(run=task.state.run + 1), owner=name)
            store.counters["runs"] += 1
            store.observer.claimed(task_id, task.state.run, name)
            started.append(task)
        return started

    def _wake_others(self) -> None:
        store = self._store
        for lane in list(store.lanes.waiting()):
            for task_id in lane:
                if not any(one.is_idle for one in store.supervisors.values()):
                    return
                store.wake(lane.queue, store.tasks[task_id].record.task_type)

    # -- after a lost answer --------------------------------------------------------------------------------------

    def sync_held_runs(self, name: str, known: Mapping[str, int], now_ms: int, number: int) -> list[str]:
        """Bring what is kept of its runs in line with what it knows: id -> run.

        `number` counts its calls. One that comes after a later one is not heeded: it knows nothing of what was claimed
        since. Returns the ids whose runs are not its own any more.
        """
        store, supervisor = self._store, self._store.supervisor(name)
        if supervisor.last_sync >= number:
            return []
        supervisor.last_sync = number
        foreign = [task_id for task_id, run in known.items() if not self._is_its_run(name, task_id, run)]
        for task_id in sorted(supervisor.running - known.keys()):
            task = store.tasks[task_id]
            store.move(task, Move.RELEASE, now_ms)
            store.counters["released"] += 1
            store.observer.moved(task_id, task.state.run, Move.RELEASE, "nobody", "sync_held_runs", b"")
            store.wake(task.record.queue)
        return foreign

    def leave(self, name: str) -> bool:
        """A supervisor ends. False while it holds runs; then nothing has changed."""
        if self._store.supervisor(name).running:
            return False
        self._store.forget(name)
        return True

    def _is_its_run(self, name: str, task_id: str, run: int) -> bool:
        task = self._store.tasks.get(task_id)
        state = task.state if task is not None else None
        return state is not None and (state.status, state.run, state.owner) == (TaskStatus.RUNNING, run, name)


def expired_outcome(task: ModelTask, now_ms: int) -> bytes:
    """What is kept of a task that was not started in time."""
    return Outcome(Cause.EXPIRED, "Expired", "nobody started it before its time was over", task.next_end,
                   ended_ms=now_ms).encode()
