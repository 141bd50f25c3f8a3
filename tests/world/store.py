"""Redis with the engine's scripts, in memory: what each verb does, by the same table and with the same words.

Law: one queue, no ageing, no fair keys; a task that waits aside keeps its place in the one line that there is; all else
as in engine/adapters/redis/lua. Whatever ends or moves a run is told
to `watch`, which keeps the ledger.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine.adapters.redis.keeper.auditing import AHEAD_MS
from engine.core.task.lifecycle import FINAL, MOVES, Move, TaskStatus
from engine.core.task.lost_run import of_lost_run
from engine.core.task.priority import DESCENDING, TaskPriority
from engine.core.task.record import Record
from engine.core.task.state import Life
from engine.ports.supervisor_broker import Handed, Settlement

S = TaskStatus
QUEUE = "q"
KEPT_MS = 3_600_000
SILENT_MS_MAX = 3500  # as in submit.lua


@dataclass(frozen=True, slots=True)
class Polled:
    leads: bool
    leases: dict[str, int]
    due_ms: float
    expires_ms: float
    removal_ms: float
    cancels: int
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Rescued:
    released: int = 0
    failed: int = 0
    cancelled: int = 0
    is_over: bool = True


class Watch:
    """Told of what Redis has done. Every method may be overridden."""

    def moved(self, task_id: bytes, run: int, move: Move, charged_to: str, by: str, outcome: bytes) -> None: ...
    def claimed(self, task_id: bytes, run: int, by: str) -> None: ...
    def buried(self, supervisor: str) -> None: ...


class Store:
    """`ring(supervisor, message)` publishes and says how many heard it."""

    def __init__(self, watch: Watch | None = None, ring: Callable[[str, str | Handed], int] | None = None) -> None:
        self.watch, self.ring = watch or Watch(), ring or (lambda supervisor, message: 0)
        self.ring_keeper: Callable[[], None] = lambda: None
        self.records: dict[bytes, bytes] = {}
        self.heads: dict[bytes, Record] = {}
        self.life: dict[bytes, Life] = {}
        self.lines: dict[TaskPriority, dict[bytes, int]] = {priority: {} for priority in TaskPriority}
        self.served: dict[TaskPriority, int] = dict.fromkeys(TaskPriority, 0)  # flows, field "v"
        self.given: dict[TaskPriority, int] = dict.fromkeys(TaskPriority, 0)  # flows, field "k:"
        self.due: dict[bytes, int] = {}
        self.expiring: dict[bytes, int] = {}
        self.ended: dict[TaskStatus, dict[bytes, int]] = {status: {} for status in FINAL}
        self.outcomes: dict[tuple[bytes, int], bytes] = {}
        self.held: dict[str, set[bytes]] = {}
        self.supervisors: dict[str, int] = {}
        self.reports: dict[str, bytes] = {}
        self.idle: dict[str, tuple[int, int]] = {}  # supervisor -> idle workers, when it said so
        self.orders: dict[str, list[bytes]] = {}
        self.cancels: dict[bytes, tuple[int, str]] = {}
        self.rescues: dict[bytes, int] = {}
        self.syncs: dict[str, int] = {}
        self.types: dict[str, frozenset[str]] = {}  # supervisor -> what it can run
        self.keeper: tuple[str, int] | None = None
        self.touched: set[bytes] = set()  # since the ledger looked last

    # -- reading --------------------------------------------------------------------------------------------------

    def status(self, task_id: bytes) -> TaskStatus:
        return self.life_of(task_id).status

    def life_of(self, task_id: bytes) -> Life:
        life = self.life.get(task_id)
        if life is None:
            head = self.heads[task_id]
            return Life(S.QUEUED, priority=head.priority, at_ms=head.created_ms)
        return life

    def waits_for_long(self, task_id: bytes, now_ms: float) -> bool:
        """Whether it is to start at a moment that is far away: it waits for that, not for some time to pass."""
        return self.life_of(task_id).status is S.PENDING and self.due[task_id] > now_ms + 15_000

    # -- clients --------------------------------------------------------------------------------------------------

    def submit(self, task_id: bytes, record: Record, now_ms: int) -> None:
        if task_id in self.records:
            assert self.records[task_id] == record.encode()
            return
        self.records[task_id], self.heads[task_id] = record.encode(), record
        self.touched.add(task_id)
        if record.options.get("due_ms", 0) > now_ms:
            self.due[task_id] = record.options["due_ms"]
            self.life[task_id] = Life(S.PENDING, priority=record.priority, at_ms=now_ms)
            self.ring_keeper()
        elif "expires_ms" in record.options or not self._hand_over(task_id, record, now_ms):
            self._queue(task_id, record.priority, 0)
        if "expires_ms" in record.options:
            self.expiring[task_id] = record.options["expires_ms"]
        if task_id in self.lines[record.priority]:
            self._ring_bells(1, record.task_type)

    def _hand_over(self, task_id: bytes, record: Record, now_ms: int) -> bool:
        """To the sleeper with the most idle workers, if it listens."""
        awake = [(-workers, name) for name, (workers, said_ms) in self.idle.items()
                 if workers and now_ms - said_ms < SILENT_MS_MAX and record.task_type in self.types.get(name, ())]
        if not awake:
            return False
        _, name = min(awake)
        if not self.ring(name, Handed(task_id, self.records[task_id])):
            return False
        place = self.given[record.priority] = max(self.given[record.priority], self.served[record.priority]) + 1
        self.served[record.priority] = place
        self.life[task_id] = Life(S.RUNNING, 1, 0, 0, record.priority, place, now_ms, name)
        self.held.setdefault(name, set()).add(task_id)
        workers, said_ms = self.idle[name]
        self.idle[name] = workers - 1, said_ms
        self.watch.claimed(task_id, 1, name)
        return True

    def cancel(self, task_id: bytes, reason: str, now_ms: int) -> TaskStatus | None:
        """CANCELLED, RUNNING if a letter was sent, None if it has ended."""
        life = self.life_of(task_id)
        if life.status is S.RUNNING:
            letter = {"do": "cancel", "id": task_id.decode(), "run": life.run, "reason": reason}
            self.post(life.owner, orjson.dumps(letter))
            self.cancels[task_id] = life.run, reason
            return S.RUNNING
        if life.status.is_final:
            return None
        self._withdraw(task_id, Move.CANCEL, now_ms)
        return S.CANCELLED

    def insist(self, now_ms: int) -> int:
        """How many wishes need nobody any more."""
        before = len(self.cancels)
        for task_id, (run, reason) in list(self.cancels.items()):
            life = self.life_of(task_id)
            if not (life.status is S.RUNNING and life.run == run) and \
                    self.cancel(task_id, reason, now_ms) is not S.RUNNING:
                del self.cancels[task_id]
        return before - len(self.cancels)

    def post(self, supervisor: str, letter: bytes) -> None:
        self.orders.setdefault(supervisor, []).append(letter)
        self.ring(supervisor, "!")

    # -- supervisors ----------------------------------------------------------------------------------------------

    def introduce(self, supervisor: str, types: frozenset[str]) -> None:
        self.types[supervisor] = types

    def step(self, supervisor: str, settlements: Sequence[Settlement], want: int, idle_workers: int | None, held: int,
             report: bytes, now_ms: int, lease_end_ms: int, heard: bytes) -> tuple[
                 list[tuple[Settlement, str]], list[Any], list[bytes], int]:
        """Refused with words, claimed (flat), letters, count of what it holds."""
        unheard = max(0, len(self.held.get(supervisor, ())) - held)
        want = max(0, want - unheard) if self.types.get(supervisor) else 0
        refused, done = [], set[bytes]()
        accepted: list[tuple[Settlement, Move, str]] = []
        for one in settlements:
            word = "STALE" if one.task_id in done else self._weigh(supervisor, one)
            if word:
                refused.append((one, word))
            else:
                done.add(one.task_id)
                move, charged_to = one.verdict.split()
                accepted.append((one, Move(move), charged_to))
        self.supervisors[supervisor] = lease_end_ms
        if report:
            self.reports[supervisor] = report
        for one, move, charged_to in accepted:
            self._settle(supervisor, one, move, charged_to, now_ms)
        if any(move is Move.RETRY for _, move, _ in accepted):
            self.ring_keeper()
        for _, move, _ in accepted:
            if move is Move.RELEASE:
                self._ring_bells(1)
        claimed: list[Any] = []
        taken = self._claim(supervisor, want, now_ms, claimed) if want else 0
        if taken < want:
            self.idle[supervisor] = max(0, (idle_workers or 0) - unheard - taken), now_ms
        elif idle_workers is not None:
            self.idle.pop(supervisor, None)
        letters = self.orders.get(supervisor, [])
        if heard in letters:
            del letters[: letters.index(heard) + 1]
        return refused, claimed, letters[:], len(self.held.get(supervisor, ()))

    def sync_held_runs(self, supervisor: str, known: Sequence[tuple[bytes, int]], now_ms: int, nth: int) -> list[bytes]:
        """The ids that are not its own any more."""
        if self.syncs.get(supervisor, 0) >= nth:
            return []
        self.syncs[supervisor] = nth
        foreign, ours = [], dict(known)
        for task_id, run in known:
            life = self.life.get(task_id)
            if life is None or (life.status, life.run, life.owner) != (S.RUNNING, run, supervisor):
                foreign.append(task_id)
        released = 0
        for task_id in list(self.held.get(supervisor, ())):
            life = self.life[task_id]
            if life.status is not S.RUNNING or life.owner != supervisor:
                self.held[supervisor].discard(task_id)
            elif task_id not in ours:
                self.held[supervisor].discard(task_id)
                self._put(task_id, Move.RELEASE, now_ms)
                self.watch.moved(task_id, life.run, Move.RELEASE, "nobody", "sync_held_runs", b"")
                released += 1
        for _ in range(released):
            self._ring_bells(1)
        return foreign

    def farewell(self, supervisor: str) -> str:
        if self.held.get(supervisor):
            return "HOLDS"
        self._bury(supervisor)
        return "OK"

    def _weigh(self, supervisor: str, one: Settlement) -> str:
        life = self.life.get(one.task_id)
        if life is None:
            return "GONE"
        to = MOVES[S.RUNNING].get(Move(one.verdict.split()[0]))
        if to is None:
            return "ILLEGAL"
        if life.run != one.run:
            return "STALE"
        if life.status is not S.RUNNING:
            return "ALREADY" if life.status is to else "STALE"
        return "" if life.owner == supervisor else "STALE"

    def _settle(self, supervisor: str, one: Settlement, move: Move, charged_to: str, now_ms: int) -> None:
        life = self.life[one.task_id]
        if charged_to == "attempt":
            self.life[one.task_id] = life._replace(attempts=life.attempts + 1)
        elif charged_to == "crash":
            self.life[one.task_id] = life._replace(crashes=life.crashes + 1)
        if one.outcome:
            self.outcomes[one.task_id, one.run] = one.outcome
        self.held[supervisor].discard(one.task_id)
        self._put(one.task_id, move, now_ms, one.at if isinstance(one.at, int) else 0)
        self.watch.moved(one.task_id, one.run, move, charged_to, supervisor, one.outcome)

    def _claim(self, supervisor: str, want: int, now_ms: int, claimed: list[Any]) -> int:
        taken, known = 0, self.types[supervisor]
        for priority in DESCENDING:
            line = self.lines[priority]
            ready = [task_id for task_id in line if self.heads[task_id].task_type in known]
            for task_id in sorted(ready, key=lambda one: (line[one], one))[: want - taken]:
                place = line.pop(task_id)
                self.served[priority] = max(self.served[priority], place)
                self.touched.add(task_id)
                taken += 1
                life = self.life_of(task_id)
                assert Move.CLAIM in MOVES[life.status]
                if self.expiring.pop(task_id, now_ms + 1) <= now_ms:
                    self.life[task_id] = life._replace(priority=priority, place=place)
                    self._put(task_id, Move.EXPIRE, now_ms, now_ms + KEPT_MS)
                    self.outcomes[task_id, life.run] = b"{}"
                    self.watch.moved(task_id, life.run, Move.EXPIRE, "nobody", "step", b"")
                    continue
                self.life[task_id] = Life(S.RUNNING, life.run + 1, life.attempts, life.crashes, priority, place, now_ms,
                                          supervisor)
                self.held.setdefault(supervisor, set()).add(task_id)
                claimed += (task_id, self.records[task_id],
                            b"%d %d %d" % (life.run + 1, life.attempts, life.crashes))
                self.watch.claimed(task_id, life.run + 1, supervisor)
        if taken < want:  # it has met all that are not its own
            for line in self.lines.values():
                for task_id in line:
                    self._ring_bells(1, self.heads[task_id].task_type)
        return taken

    # -- the keeper -----------------------------------------------------------------------------------------------

    def poll(self, keeper: str, until_ms: int, now_ms: int) -> Polled:
        inf = float("inf")
        removals = [ms for ended in self.ended.values() for ms in ended.values()]
        return Polled(self._lead(keeper, until_ms, now_ms), dict(self.supervisors), min(self.due.values(), default=inf),
                      min(self.expiring.values(), default=inf), min(removals, default=inf),
                      len(self.cancels))

    def _lead(self, keeper: str, until_ms: int, now_ms: int) -> bool:
        if self.keeper and self.keeper[0] != keeper and now_ms <= self.keeper[1] <= 2 * until_ms - now_ms:
            return False
        if until_ms <= now_ms:
            if self.keeper and self.keeper[0] == keeper:
                self.keeper = None
            return False
        self.keeper = keeper, until_ms
        return True

    def promote(self, now_ms: int) -> int:
        ready = sorted((ms, task_id) for task_id, ms in self.due.items() if ms <= now_ms)
        for _, task_id in ready:
            life = self.life[task_id]
            self._put(task_id, Move.PROMOTE, now_ms)
            self.watch.moved(task_id, life.run, Move.PROMOTE, "nobody", "keeper", b"")
        self._ring_bells(len(ready))
        return len(ready)

    def expire(self, now_ms: int) -> int:
        over = sorted((ms, task_id) for task_id, ms in self.expiring.items() if ms <= now_ms)
        for _, task_id in over:
            life = self.life_of(task_id)
            if life.status.is_final or life.status is S.RUNNING:
                del self.expiring[task_id]
            else:
                self._withdraw(task_id, Move.EXPIRE, now_ms)
        return len(over)

    def lapse(self, supervisor: str, seen_ms: int | None) -> bool:
        if supervisor not in self.supervisors or seen_ms not in (None, self.supervisors[supervisor]):
            return False
        self.supervisors[supervisor] = 0
        return True

    def redate(self, now_ms: int) -> int:
        """What reconciling does to retries that were dated by a clock that has been set back."""
        ahead = [(task_id, life) for task_id in self.due if (life := self.life[task_id]).status is S.RETRYING
                 and life.at_ms > now_ms + AHEAD_MS]
        for task_id, life in ahead:
            self.due[task_id] = now_ms + max(0, self.due[task_id] - life.at_ms)
            self.life[task_id] = life._replace(at_ms=now_ms)
        return len(ahead)

    def rescue(self, supervisor: str, now_ms: int) -> Rescued:
        if self.supervisors.get(supervisor, 0) >= now_ms:
            return Rescued()
        letters = [orjson.loads(letter) for letter in self.orders.get(supervisor, ())]
        reasons = {(letter["id"].encode(), letter["run"]): letter["reason"] for letter in letters if "run" in letter}
        moves = list[Move]()
        for task_id in sorted(self.held.get(supervisor, ())):
            life = self.life[task_id]
            self.held[supervisor].discard(task_id)
            if life.status is not S.RUNNING or life.owner != supervisor:
                continue
            fate = of_lost_run(
                life.run, supervisor, rescues=self.rescues.get(task_id, 0),
                max_deliveries=self.heads[task_id].options.get("max_deliveries"),
                cancel_reason=reasons.get((task_id, life.run)), now_ms=now_ms)
            moves.append(fate.move)
            self.outcomes[task_id, life.run] = fate.outcome.encode()
            if fate.move is Move.RELEASE:
                self.rescues[task_id] = self.rescues.get(task_id, 0) + 1
            else:
                self.rescues.pop(task_id, None)
            self._put(task_id, fate.move, now_ms, now_ms + KEPT_MS)
            self.watch.moved(task_id, life.run, fate.move, "nobody", "rescue", fate.outcome.encode())
        self._bury(supervisor)
        self._ring_bells(moves.count(Move.RELEASE))
        return Rescued(moves.count(Move.RELEASE), moves.count(Move.FAIL), moves.count(Move.CANCEL))

    # -- the small verbs ------------------------------------------------------------------------------------------

    def _bury(self, supervisor: str) -> None:
        self.watch.buried(supervisor)
        for of_it in (self.supervisors, self.reports, self.idle, self.orders, self.syncs, self.types):
            of_it.pop(supervisor, None)  # type: ignore[attr-defined]

    def _put(self, task_id: bytes, move: Move, now_ms: int, at_ms: int = 0) -> None:
        """Make the move and put the task into the place that its new status has."""
        life = self.life_of(task_id)
        to = MOVES[life.status][move]
        place = life.place
        self.touched.add(task_id)
        self.due.pop(task_id, None)
        if to is S.QUEUED:
            place = self._queue(task_id, life.priority, place)
        elif to is S.RETRYING:
            self.due[task_id] = at_ms
        else:
            self.ended[to][task_id] = at_ms
        self.life[task_id] = life._replace(status=to, place=place, at_ms=now_ms, owner="-")

    def _queue(self, task_id: bytes, priority: TaskPriority, place: int) -> int:
        if not place:
            self.given[priority] = place = max(self.given[priority], self.served[priority]) + 1
        self.lines[priority][task_id] = place
        return place

    def _withdraw(self, task_id: bytes, move: Move, now_ms: int) -> None:
        life = self.life_of(task_id)
        run = life.run + ((task_id, life.run) in self.outcomes)
        if self.lines[life.priority].pop(task_id, None) is not None and self.given[life.priority] > 0:
            self.given[life.priority] -= 1
        self.expiring.pop(task_id, None)
        self.outcomes[task_id, run] = b"{}"
        self.life[task_id] = life._replace(run=run)
        self._put(task_id, move, now_ms, now_ms + KEPT_MS)
        self.watch.moved(task_id, run, move, "nobody", "withdraw", b"")

    def _ring_bells(self, count: int, task_type: str | None = None) -> None:
        for supervisor in list(self.idle):
            if count <= 0:
                return
            if task_type is not None and task_type not in self.types.get(supervisor, ()):
                continue
            del self.idle[supervisor]
            if self.ring(supervisor, QUEUE):
                count -= 1
