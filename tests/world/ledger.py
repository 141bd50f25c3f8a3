"""The promises, checked after everything that happens: a broken one ends the world.

1. A task that was submitted is in exactly one place, the one that its life names.
2. Two runs of a task are never under way at once on one host; nor on two, unless a whole host stood still.
3. A run is ended once, a task is ended once, and what it ended with is what its worker said.
4. A death is paid for by who is to blame: the task for its worker's, nobody for what the engine did.
5. When nothing fails any more, every task ends, and in a way that its kind allows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from engine.core.task.lifecycle import FINAL, Move, TaskStatus
from engine.core.task.lost_run import RESCUES_MAX
from tests.world.store import Store, Watch

S = TaskStatus


class Broken(Exception):
    """A promise was not kept."""


@dataclass(slots=True)
class Start:
    """One time that a worker began a run."""

    host: str
    worker: str
    at_s: float
    ended_s: float | None = None
    how: str = ""  # the worker's word, or "died", "killed", "stranded"
    is_doomed: bool = False  # the pool had asked for its worker's end


@dataclass(slots=True)
class Book:
    """What is known of a task."""

    kind: str
    was_told: bool = False  # the submit returned
    is_cancelled: bool = False  # somebody asked for it
    starts: dict[int, list[Start]] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)  # run -> move that was accepted
    is_over: bool = False


class Ledger(Watch):
    def __init__(self, now_s: Callable[[], float], trace: Callable[[str], None]) -> None:
        self.now_s, self.trace = now_s, trace
        self.books: dict[bytes, Book] = {}
        self.letters: dict[str, str] = {}  # that have to be heard -> by whom
        self.heard_of: set[str] = set()
        self.stood_still: list[tuple[str, float, float]] = []  # host, from, to: it, or all that watches over it
        self.counts: dict[str, int] = {}

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # -- what workers do ------------------------------------------------------------------------------------------

    def started(self, task_id: bytes, run: int, host: str, worker: str) -> Start:
        book, now_s = self.books[task_id], self.now_s()
        for number, starts in book.starts.items():
            for other in starts:
                if other.ended_s is None and not self._is_excused(other, host, now_s):
                    raise Broken(f"run {run} of {task_id!r} starts in {worker} on {host} at {now_s:.3f} while run "
                                 f"{number} goes on in {other.worker} on {other.host}")
        if run in book.starts:
            raise Broken(f"run {run} of {task_id!r} starts twice")
        start = Start(host, worker, now_s)
        book.starts.setdefault(run, []).append(start)
        self.count("runs")
        return start

    def ended(self, start: Start, how: str) -> None:
        start.ended_s, start.how = self.now_s(), how

    def _is_excused(self, other: Start, host: str, now_s: float) -> bool:
        """A host that stands still cannot end its runs in time; nobody else is to know."""
        if other.host == host:
            return False
        return any(name == other.host and begin_s <= now_s and end_s >= other.at_s
                   for name, begin_s, end_s in self.stood_still)

    def heard(self, letter: str) -> None:
        if letter in self.heard_of:
            raise Broken(f"{letter} is obeyed twice")
        if self.letters.pop(letter, None):
            self.heard_of.add(letter)

    def buried(self, supervisor: str) -> None:
        """Its mailbox goes with it: it has left, was killed, or nobody could hear that it lives."""
        self.letters = {letter: to for letter, to in self.letters.items() if to != supervisor}

    # -- what Redis does ------------------------------------------------------------------------------------------

    def claimed(self, task_id: bytes, run: int, by: str) -> None:
        self.trace(f"redis: {by} claims {task_id[-3:].decode()} run {run}")

    def moved(self, task_id: bytes, run: int, move: Move, charged_to: str, by: str, outcome: bytes) -> None:
        book = self.books[task_id]
        self.trace(f"redis: {task_id[-3:].decode()} run {run} {move} {charged_to} by {by}")
        self.count(f"{move} {charged_to}")
        if move is Move.PROMOTE:
            return
        if run and run in book.ends and by != "withdraw":
            raise Broken(f"run {run} of {task_id!r} ends with {move}, and had ended with {book.ends[run]}")
        if book.is_over:
            raise Broken(f"{task_id!r} ends twice")
        book.ends[run] = move
        book.is_over = move not in (Move.RELEASE, Move.RETRY)
        if by in ("rescue", "sync_held_runs", "withdraw", "step"):
            if charged_to != "nobody":
                raise Broken(f"{by} lets {charged_to} pay")
            if by == "sync_held_runs" and run in book.starts:
                raise Broken(f"{task_id!r} run {run} was released by sync_held_runs though it had started")
        else:
            self._judge(book, task_id, run, move, charged_to, outcome)

    def _judge(self, book: Book, task_id: bytes, run: int, move: Move, charged_to: str, outcome: bytes) -> None:
        """Whether a pool tells the truth about a run."""
        starts = book.starts.get(run, [])
        how = starts[-1].how if starts else "not started"
        doomed = bool(starts) and starts[-1].is_doomed
        if starts and starts[-1].ended_s is None:
            raise Broken(f"{task_id!r} run {run} is settled with {move} while it goes on")
        cause = orjson.loads(outcome)["cause"] if outcome else ""
        fair = {
            (Move.COMPLETE, "nobody"): how == "C",
            (Move.CANCEL, "nobody"): book.is_cancelled or how == "X",
            (Move.RELEASE, "nobody"): how in ("not started", "stranded", "killed") or doomed,
            (Move.RETRY, "crash"): how == "died", (Move.FAIL, "crash"): how == "died",
            (Move.RETRY, "attempt"): how in "EFAS" or (cause == "timeout" and doomed),
            (Move.FAIL, "attempt"): how in "EFAS",
            (Move.TIME_OUT, "attempt"): how == "S" or (bool(starts) and doomed),
            (Move.RETRY, "nobody"): how == "not started",
            (Move.FAIL, "nobody"): cause == "lease_lost" and (doomed or how == "stranded"),
        }.get((move, charged_to), False)
        if not fair:
            raise Broken(f"{task_id!r} run {run}: {move} {charged_to} ({cause}), but it was {how}"
                         f"{' and doomed' * doomed}")
        if how == "died" and not doomed and charged_to != "crash" and not book.is_cancelled:
            raise Broken(f"{task_id!r} run {run}: its worker died, and {charged_to} pays")

    # -- places ---------------------------------------------------------------------------------------------------

    def look(self, store: Store) -> None:
        """Check the places of what was touched since the last look."""
        for task_id in store.touched:
            self._check_place(store, task_id)
        store.touched.clear()

    def look_at_all(self, store: Store) -> None:
        for task_id, book in self.books.items():
            if task_id in store.records:
                self._check_place(store, task_id)
            elif book.was_told:
                raise Broken(f"{task_id!r} was submitted and is lost")

    def _check_place(self, store: Store, task_id: bytes) -> None:
        life = store.life_of(task_id)
        places = [f"line {priority.name}" for priority, line in store.lines.items() if task_id in line]
        places += [f"held {name}" for name, held in store.held.items() if task_id in held]
        places += [f"ended {status}" for status, ended in store.ended.items() if task_id in ended]
        places += ["due"] * (task_id in store.due)
        home = {S.QUEUED: f"line {life.priority.name}", S.RUNNING: f"held {life.owner}", S.PENDING: "due",
                S.RETRYING: "due"}.get(life.status, f"ended {life.status}")
        if places != [home]:
            raise Broken(f"{task_id!r} is {life.status} and in {places}")

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self, store: Store, now_ms: float) -> None:
        self.look_at_all(store)
        if self.letters:
            raise Broken(f"nobody heard {self.letters}")
        for task_id, record in store.heads.items():
            book, life = self.books[task_id], store.life_of(task_id)
            if store.waits_for_long(task_id, now_ms):
                continue  # the clock was set back
            if life.status not in FINAL:
                raise Broken(f"{task_id!r} ({book.kind}) never ended: {life}")
            rescues = sum(move == Move.RELEASE for move in book.ends.values())
            once = record.options.get("max_deliveries") == 1
            allowed = set(ENDS[book.kind])
            if self.counts.get("stop_worker") or self.counts.get("freeze_host"):
                allowed.add(S.TIMEOUT)
            if book.is_cancelled:
                allowed.add(S.CANCELLED)
            if life.crashes >= 3 or rescues >= RESCUES_MAX or once:
                allowed.add(S.FAILED)
            if life.status not in allowed:
                raise Broken(f"{task_id!r} ({book.kind}) ended as {life}")
            if once and len(book.starts) > 1:
                raise Broken(f"{task_id!r} must not be started twice, and was started as runs {list(book.starts)}")


ENDS: dict[str, tuple[TaskStatus, ...]] = {
    "quick": (S.COMPLETED,), "short": (S.COMPLETED,), "long": (S.COMPLETED,), "flaky": (S.COMPLETED,),
    "asks": (S.COMPLETED,), "fails": (S.FAILED,), "exits": (S.FAILED,), "hangs": (S.TIMEOUT,), "soft": (S.TIMEOUT,),
    "cancels": (S.CANCELLED, S.TIMEOUT), "expires": (S.COMPLETED, S.FAILED),
}
