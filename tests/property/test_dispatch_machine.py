"""Random crashes, stalls, cancels and late replies against the pool's core.

The machine below is the world: it owns the processes, their pipes and the clock. The core may only ask it for
things, through actions, as the real pool does; what it asks for is held against what is true in the world.
"""

from collections import Counter, deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.core.pool.actions import (
    Halt,
    Interrupt,
    Kill,
    Preempt,
    Quit,
    Resume,
    Send,
    Settle,
    Spawn,
    Stopped,
    Suspend,
    TakeBack,
    Unwatch,
    Watch,
)
from engine.core.pool.backlog import BACKLOG_S_MAX
from engine.core.pool.breaker import Breaker, BreakerTerms
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.preemption import PreemptionLimits
from engine.core.pool.slot import Phase, Run
from engine.core.pool.window import PATIENCE_S, Windows
from engine.core.task.lifecycle import Move
from engine.core.task.limits import Limits
from engine.core.task.outcome import Cause, Outcome
from engine.core.task.policy import RunPolicy
from engine.core.task.priority import TaskPriority
from engine.core.task.retry import ChargedTo, RetryPolicy
from engine.core.tree.restart import RestartBudget

SLOTS, INTENSITY, PERIOD_S, TASKS_MAX = 3, 3, 60.0, 7
BOOT_S, CANCEL_GRACE_S, QUIT_S, GRACE_S = 5.0, 2.0, 4.0, 8.0
WINDOW_MAX = 4
DEATHS_MAX, DEATHS_PERIOD_S, PAUSE_S = 2, 30.0, 3.0
SUSPENDED_MAX, SUSPENDED_BYTES_MAX, SUSPENDED_S_MAX = 2, 100, 50.0
SLOTS_MAX = 4  # after a resize
a_slot = st.integers(0, 2 * SLOTS + SUSPENDED_MAX)  # each worker may have a replacement
LOW, URGENT = int(TaskPriority.LOW), int(TaskPriority.URGENT)


class Worker:
    """A process as the kernel sees it."""

    def __init__(self) -> None:
        self.unread: deque[Run] = deque()
        self.running: Run | None = None
        self.begun_s = 0.0
        self.killed = False
        self.quitting = False
        self.interrupted: set[int] = set()
        self.watched: Limits | None = None  # what its runs are held to
        self.has_stepped_back = False
        self.given = 0  # runs, less those that were taken back
        self.suspended_at_s: float | None = None
        self.suspended_s = 0.0  # the run that it executes, while it was suspended

    def read_next(self, now_s: float) -> None:
        if self.running is None and self.unread:
            self.running, self.begun_s, self.suspended_s = self.unread.popleft(), now_s, 0.0

    def age_s(self, now_s: float) -> float:
        """How long its run has been executed, without the time for which it was suspended."""
        return (now_s if self.suspended_at_s is None else self.suspended_at_s) - self.begun_s - self.suspended_s


class World(RuleBasedStateMachine):
    is_calm = False  # what ends everything is left out

    @initialize(tasks_max=st.sampled_from([0, 1, TASKS_MAX]), suspended_max=st.sampled_from([0, 1, SUSPENDED_MAX]),
                suspended_bytes_max=st.sampled_from([0, SUSPENDED_BYTES_MAX]))
    def boot(self, tasks_max: int, suspended_max: int, suspended_bytes_max: int) -> None:
        self.now, self.is_busy, self.size = 100.0, False, SLOTS
        suspended_max = max(suspended_max, self.is_calm)
        self.weights: dict[int, int] = {}  # of runs by token; 40 without
        self.core = Dispatch(SLOTS, RestartBudget(INTENSITY, PERIOD_S, pause_s=0.1), Windows(WINDOW_MAX),
                             Timing(BOOT_S, CANCEL_GRACE_S, QUIT_S), lambda: 0.5, tasks_max,
                             Breaker(BreakerTerms(DEATHS_MAX, DEATHS_PERIOD_S, PAUSE_S)),
                             PreemptionLimits(suspended_max, suspended_bytes_max, SUSPENDED_S_MAX), self.weigh)
        self.stopped_until_s: dict[str, float] = {}
        self.workers: dict[int, Worker] = {}
        self.claimed: list[Run] = []
        self.settled: Counter[bytes] = Counter()
        self.moves: dict[bytes, Move] = {}
        self.completed: set[bytes] = set()  # whose handler returned while nobody had decided otherwise
        self.own_faults: list[float] = []
        self.halted = False
        self.core.start(self.now)
        self.obey()

    def weigh(self, slot: int) -> int:
        running = self.workers[slot].running if slot in self.workers else None
        return self.weights.get(running.token, 40) if running is not None else 0

    def obey(self) -> None:
        while self.core.actions and not self.is_busy:
            actions = self.core.actions[:]
            self.core.actions.clear()
            for action in actions:
                self.carry_out(action)

    def carry_out(self, action: object) -> None:
        match action:
            case Spawn(slot):
                assert slot not in self.workers, "two processes in one slot"
                self.workers[slot] = Worker()
            case Send(slot, run):
                worker = self.workers[slot]
                assert not worker.killed, "sent to a worker that is being killed"
                assert not worker.quitting, "sent to a worker that is on its way out"
                assert worker.suspended_at_s is None, "sent to a suspended worker"
                assert len(worker.unread) + (worker.running is not None) < WINDOW_MAX, "beyond the window"
                assert not (run.is_alone and (worker.unread or worker.running)), "a large message sent ahead"
                assert self.now >= self.stopped_until_s.get(run.task_type, 0), "its handler is stopped"
                limits = run.policy.limits
                assert worker.watched == limits, "sent without its limits, or with others'"
                assert not worker.has_stepped_back, "sent to a worker that another run has made nice"
                worker.has_stepped_back = bool(limits and limits.nice)
                worker.given += 1
                assert worker.given <= (self.core.workers.tasks_max or worker.given), "more than a worker may run"
                worker.unread.append(run)
                worker.read_next(self.now)
            case Settle(run, verdict, _):
                assert all(worker.running is not run for worker in self.workers.values()), "settled while running"
                assert all(run not in worker.unread for worker in self.workers.values()), "settled while in a pipe"
                self.settled[run.task_id] += 1
                self.moves[run.task_id] = verdict.move
                if verdict.move is Move.RETRY and verdict.charged_to is ChargedTo.NOBODY:  # held back before it began
                    del self.moves[run.task_id]
                assert (verdict.move is Move.COMPLETE) == (run.task_id in self.completed)
            case Watch(slot, limits):
                assert self.workers[slot].watched is None
                self.workers[slot].watched = limits
            case Unwatch(slot):
                worker = self.workers[slot]
                assert worker.watched is not None
                assert worker.running is None or self.is_busy, "let go in the middle of a run"
                worker.watched = None
            case TakeBack(slot):
                worker = self.workers[slot]
                back = [run.token for run in worker.unread]
                worker.given -= len(back)
                worker.unread.clear()
                self.core.taken_back(slot, back, self.now)
            case Suspend(slot, run):
                self.is_suspended(slot, run)
            case Resume(slot, run, suspended_s):
                self.is_resumed(slot, run, suspended_s)
            case Interrupt(slot, token, _):
                assert self.is_busy or self.workers[slot].suspended_at_s is None, "interrupted while suspended"
                self.workers[slot].interrupted.add(token)
            case Kill(slot):
                self.workers[slot].killed = True
            case Quit(slot):
                worker = self.workers[slot]
                assert worker.running is None, "told to go with work in hand"
                assert not worker.unread, "told to go with work in its pipe"
                assert worker.suspended_at_s is None, "told to exit while it is suspended"
                extra = sum(not one.counts_toward_size and one.phase is not Phase.DOWN for one in self.core.slots)
                assert self.core.draining or not self.core.slots[slot].counts_toward_size or extra >= self.size, \
                    "retired before a replacement was there"
                worker.quitting = True
            case Stopped(task_type, pause_s, _):
                self.stopped_until_s[task_type] = self.now + pause_s
            case Halt():
                assert len(self.recent_faults()) > INTENSITY, "gave up too early"
                self.halted = True
                self.core.stop()

    def is_suspended(self, slot: int, run: Run) -> None:
        worker = self.workers[slot]
        assert worker.suspended_at_s is None
        assert worker.running in (run, None)  # None: it has answered in this very moment
        assert not worker.killed
        assert run.priority < URGENT
        assert run.policy.preemptible
        assert run.cancelled is None
        assert run.suspended_s < SUSPENDED_S_MAX
        assert all(other.runs[0].priority >= run.priority for other in self.core.slots if other.counts_toward_size
                   and other.phase is Phase.UP and len(other.runs) == 1 and other.runs[0].policy.preemptible
                   and not other.interrupted and not other.leaving and other.runs[0].suspended_s < SUSPENDED_S_MAX
                   and not self.core.preemption.limits.suspended_bytes_max), "there was somebody of a lower priority"
        worker.suspended_at_s = self.now
        suspended = [one for one in self.core.slots if one.phase is Phase.SUSPENDED]
        limits = self.core.preemption.limits
        assert len(suspended) <= limits.suspended_max
        bytes_ = sum(one.suspended_bytes for one in suspended)
        assert not limits.suspended_bytes_max or bytes_ <= limits.suspended_bytes_max

    def is_resumed(self, slot: int, run: Run | None, suspended_s: float) -> None:
        worker = self.workers[slot]
        assert worker.suspended_at_s is not None
        true_s, worker.suspended_at_s = self.now - worker.suspended_at_s, None
        if run is not None:
            assert abs(suspended_s - true_s) < 1e-6
            worker.suspended_s += true_s
            assert abs(run.suspended_s - worker.suspended_s) < 1e-6 or worker.running is not run

    def recent_faults(self) -> list[float]:
        return [moment for moment in self.own_faults if moment >= self.now - PERIOD_S]

    # -- what can happen ------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.is_calm)
    @rule(slot=a_slot)
    def says_ready(self, slot: int) -> None:
        if slot in self.workers:
            self.core.booted(slot, 1000 + slot, self.now)
            self.obey()

    @rule()
    def all_say_ready(self) -> None:
        for slot in list(self.workers):
            self.says_ready(slot)

    @rule(count=st.integers(1, 5), timeout=st.sampled_from([0.0, 0.005, 3.0, 20.0]), soft=st.sampled_from([0.0, 1.0]),
          large=st.booleans(), kind=st.sampled_from("ab"), once=st.booleans(),
          limits=st.sampled_from([None, None, Limits(memory_bytes=100), Limits(nice=5)]),
          priority=st.integers(LOW, URGENT), weight=st.sampled_from([10, 40, 90, 200]), preemptible=st.booleans())
    def claims(self, count: int, timeout: float, soft: float, large: bool, kind: str, once: bool,
               limits: Limits | None, priority: int, weight: int, preemptible: bool) -> None:
        policy = RunPolicy(timeout, soft, limits=limits, retry=RetryPolicy(max_deliveries=1 if once else 0),
                           preemptible=preemptible)
        large = large or bool(limits and limits.need_run_alone)
        runs, room = [], self.core.room(self.now)
        assert room.preempt is not Preempt.WHEN_FULL or self.core.preemption.is_on
        if room.preempt is Preempt.NOW:
            priority = URGENT
        for _ in range(min(count, room.runs)):
            token = len(self.claimed) + 1
            self.weights[token] = weight
            runs.append(Run(b"t%d" % token, 1, 0, 0, kind, "default", policy, b"", token, large, priority))
            self.claimed.append(runs[-1])
        self.core.claimed(runs, self.now)
        self.obey()

    @rule(slot=a_slot, word=st.sampled_from([b"C", b"C", b"C", b"E", b"F", b"A", b"X", b"S", b"I"]),
          wall_s=st.sampled_from([0.0001, 0.0001, 0.002, 0.5]))
    def replies(self, slot: int, word: bytes, wall_s: float) -> None:
        worker = self.workers.get(slot)
        if worker is None or worker.running is None or worker.suspended_at_s is not None:
            return
        run, worker.running = worker.running, None
        decided = self.core.slots[slot].phase is Phase.DYING
        if word == b"C" and not decided:
            self.completed.add(run.task_id)
        self.core.replied(slot, run.token, word, wall_s, b'{"error":{}}', self.now)
        worker.read_next(self.now)
        self.core.fill(self.now)
        self.obey()

    @rule(slot=a_slot, cause=st.sampled_from([Cause.OUT_OF_MEMORY, Cause.CPU_TIME, Cause.PROCESSES]))
    def exceeds_a_limit(self, slot: int, cause: Cause) -> None:
        worker = self.workers.get(slot)
        if worker is None or worker.running is None:
            return
        self.core.exceeded(slot, Limits(memory_bytes=1), cause, "another run's")
        assert not self.core.actions
        if worker.watched is not None:
            self.core.exceeded(slot, worker.watched, cause, "too much")
            self.obey()
            assert worker.killed

    @precondition(lambda self: not self.is_calm)
    @rule(slot=a_slot, at_once=st.booleans())
    def is_to_be_replaced(self, slot: int, at_once: bool) -> None:
        if slot < len(self.core.slots):
            self.core.replace(slot, self.now, at_once=at_once)
            self.obey()

    @rule(size=st.integers(1, SLOTS_MAX))
    def is_to_be_resized(self, size: int) -> None:
        if not self.core.draining and not self.core.is_stranded:
            self.size = size
            self.core.resize(size, self.now)
            self.obey()

    @rule(slot=a_slot)
    def replies_as_it_is_suspended(self, slot: int) -> None:
        """It had written its reply before the signal came, and we read it after."""
        worker = self.workers.get(slot)
        if worker is None or worker.killed:
            return
        if worker.suspended_at_s is not None and worker.running is not None:
            run, worker.running = worker.running, None
            self.completed.add(run.task_id)
            self.core.replied(slot, run.token, b"C", 0.5, b"{}", self.now)
            self.core.fill(self.now)
            self.obey()

    @precondition(lambda self: not self.is_calm)
    @rule(slot=a_slot, token=st.integers(1, 50))
    def stray_reply(self, slot: int, token: int) -> None:
        worker = self.workers.get(slot)
        if worker is not None and (worker.running is None or worker.running.token != token):
            before = len(self.core.runs)
            self.core.replied(slot, token, b"C", 0.1, b"{}", self.now)
            assert len(self.core.runs) == before
            assert not self.core.actions

    @precondition(lambda self: not self.is_calm)
    @rule(slot=a_slot)
    def dies(self, slot: int) -> None:
        worker = self.workers.pop(slot, None)
        if worker is None:
            return
        was_asked = self.core.slots[slot].phase in (Phase.QUITTING, Phase.DYING)  # whether it has heard that or not
        if worker.running is None and not worker.killed and not was_asked:
            self.own_faults.append(self.now)
        unread = [run.token for run in worker.unread]
        self.core.exited(slot, lambda run: Outcome.killed(run.number, "SIGKILL"), unread, self.now)
        self.obey()

    @precondition(lambda self: not self.is_calm)
    @rule(events=st.lists(st.tuples(st.sampled_from(["says_ready", "replies", "cancel", "dies"]), a_slot), min_size=2,
                          max_size=6))
    def much_happens_at_once(self, events: list[tuple[str, int]]) -> None:
        """The pool takes in all that has happened before it does anything: workers may be gone by then."""
        self.is_busy = True
        for event, slot in events:
            if event == "replies":
                self.replies(slot, b"C", 0.0001)
            else:
                getattr(self, event)(slot)
        self.is_busy = False
        self.obey()

    @precondition(lambda self: not self.is_calm)
    @rule()
    def fork_server_dies(self) -> None:
        for slot in list(self.workers):
            unread = [run.token for run in self.workers.pop(slot).unread]
            self.core.exited(slot, lambda run: Outcome.killed(run.number, "SIGKILL"), unread, self.now, stranded=True)
            self.obey()
            assert not self.workers.keys() & {slot}, "spawned without a fork server"
            assert self.core.room(self.now).runs == 0, "asks for runs that only dying workers could take"
        if not self.core.draining:
            self.core.start(self.now)
        self.obey()

    @rule(seconds=st.sampled_from([0.001, 0.012, 0.2, 1.5, 6.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.core.tick(self.now)
        self.obey()

    @rule(index=st.integers(0, 30))
    def cancel(self, index: int) -> None:
        if index < len(self.claimed):
            self.core.cancel(self.claimed[index].task_id, "no longer wanted", self.now)
            self.obey()

    @precondition(lambda self: not self.is_calm)
    @rule()
    def fence(self) -> None:
        self.core.fence()
        self.obey()

    @precondition(lambda self: not self.is_calm)
    @rule(chance=st.integers(0, 9))
    def drain(self, chance: int) -> None:
        if chance == 0 and not self.core.draining:
            self.core.drain(self.now, GRACE_S)
            self.obey()

    # -- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def every_claimed_run_is_held_once_or_settled_once(self) -> None:
        held = Counter(run.task_id for slot in self.core.slots for run in slot.runs)
        held += Counter(run.task_id for run in self.core.backlog.runs)
        assert held == Counter(self.core.runs.keys())
        assert held + self.settled == Counter(run.task_id for run in self.claimed)

    @invariant()
    def the_core_knows_what_each_worker_has(self) -> None:
        for slot in self.core.slots:
            worker = self.workers.get(slot.index)
            assert (worker is None) == (slot.phase is Phase.DOWN)
            if worker is not None and slot.phase is not Phase.DYING:
                inside = ([worker.running] if worker.running else []) + list(worker.unread)
                assert list(slot.runs) == inside

    @invariant()
    def there_are_as_many_places_as_there_should_be(self) -> None:
        assert sum(slot.counts_toward_size for slot in self.core.slots) == self.size
        assert sum(bool(slot.runs) and slot.counts_toward_size for slot in self.core.slots) <= self.size
        suspended = [slot for slot in self.core.slots if slot.phase is Phase.SUSPENDED]
        assert all(not slot.counts_toward_size for slot in suspended)
        assert len(suspended) <= self.core.preemption.limits.suspended_max
        assert self.core.preemption.is_active or not suspended
        assert len(self.core.preemption.standby()) <= 1

    @invariant()
    def a_worker_that_does_not_count_ends_its_run_or_is_suspended(self) -> None:
        for slot in self.core.slots:
            if not slot.counts_toward_size and slot.phase is Phase.UP:
                assert slot.runs
                assert slot.retiring

    @invariant()
    def nothing_is_suspended_while_a_worker_has_nothing_to_do(self) -> None:
        self.core.fill(self.now)
        self.obey()
        if any(slot.phase is Phase.SUSPENDED for slot in self.core.slots) and not self.core.is_stranded:
            waiting = sum(run.priority == URGENT for run in self.core.backlog.runs)
            idle = sum(slot.counts_toward_size and not slot.runs and not slot.retiring for slot in self.core.slots
                       if slot.phase in (Phase.UP, Phase.BOOTING, Phase.DOWN))
            assert idle <= waiting

    @invariant()
    def the_core_knows_what_is_suspended(self) -> None:
        for slot in self.core.slots:
            worker = self.workers.get(slot.index)
            if worker is not None and not worker.killed:
                assert (slot.phase is Phase.SUSPENDED) == (worker.suspended_at_s is not None)

    @invariant()
    def no_deadline_is_overdue_after_a_tick(self) -> None:
        self.core.tick(self.now)
        self.obey()
        assert self.core.next_deadline_s() > self.now

    @invariant()
    def nobody_runs_past_the_timeout(self) -> None:
        for worker in self.workers.values():
            run = worker.running
            if run is not None and run.policy.timeout_s and worker.age_s(self.now) > run.policy.timeout_s + 1e-6:
                assert worker.killed

    @invariant()
    def nobody_waits_behind_a_long_run_while_a_worker_is_idle(self) -> None:
        self.core.fill(self.now)
        self.obey()
        idle = any(slot.phase is Phase.UP and not slot.runs for slot in self.core.slots)
        for worker in self.workers.values():
            if idle and not worker.killed and worker.running and worker.age_s(self.now) >= PATIENCE_S:
                assert not worker.unread

    @invariant()
    def nothing_lies_in_the_backlog_for_long(self) -> None:
        assert all(self.now - run.since_s < BACKLOG_S_MAX for run in self.core.backlog.runs)

    @invariant()
    def it_gives_up_when_the_budget_is_exceeded(self) -> None:
        assert self.halted or len(self.recent_faults()) <= INTENSITY

    @invariant()
    def at_most_once_means_it(self) -> None:
        for run in self.claimed:
            if run.policy.retry.max_deliveries == 1:
                assert self.moves.get(run.task_id) is not Move.RETRY

    def teardown(self) -> None:
        """Liveness: told to stop, and with workers that die when killed, everything is settled."""
        if not hasattr(self, "core"):
            return
        self.core.stop()
        self.obey()
        for slot in list(self.workers):
            assert self.workers[slot].killed
            self.dies(slot)
        assert self.core.is_empty
        assert self.settled == Counter(run.task_id for run in self.claimed)


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
