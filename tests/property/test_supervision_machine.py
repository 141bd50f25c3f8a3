"""Random deaths and hangs against the root's core, by the rules of OTP.

The machine below owns the processes and the clock; what the core asks for is held against what is true.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.core.tree.restart import RestartBudget
from engine.core.tree.supervision import (
    ChildPhase,
    ChildSpec,
    GiveUp,
    KillChild,
    Restart,
    StartChild,
    StopChild,
    Strategy,
    Supervision,
)

INTENSITY, PERIOD_S, SHUTDOWN_S = 3, 60.0, 5.0
NAMES = ("a", "b", "c", "d")
a_name = st.sampled_from(NAMES)


class World(RuleBasedStateMachine):
    @initialize(strategy=st.sampled_from(Strategy), kinds=st.lists(st.sampled_from(Restart), min_size=4, max_size=4))
    def boot(self, strategy: Strategy, kinds: list[Restart]) -> None:
        self.now = 10.0
        self.strategy, self.kinds = strategy, dict(zip(NAMES, kinds, strict=True))
        specs = [ChildSpec(name, kind, SHUTDOWN_S) for name, kind in self.kinds.items()]
        self.core = Supervision(specs, RestartBudget(INTENSITY, PERIOD_S, pause_s=0.5, pause_s_max=2.0), strategy)
        self.alive: dict[str, int] = {}  # name -> incarnation
        self.incarnations = dict.fromkeys(NAMES, 0)
        self.asked: dict[str, float] = {}
        self.killed: set[str] = set()
        self.charged: list[float] = []
        self.over: str | bool | None = False
        self.told_to_stop = False
        self.tell(self.core.start(self.now))
        assert list(self.alive) == list(NAMES), "started in order"

    def tell(self, actions: list[object]) -> None:
        for action in actions:
            assert self.over is False, "an action after the end"
            match action:
                case StartChild(name):
                    assert name not in self.alive, "two processes of one child"
                    assert not self.told_to_stop, "started during a stop"
                    self.incarnations[name] += 1
                    self.alive[name] = self.incarnations[name]
                case StopChild(name):
                    assert name in self.alive
                    self.asked[name] = self.now
                case KillChild(name):
                    assert name in self.alive
                    self.killed.add(name)
                case GiveUp(reason):
                    assert not self.alive, "gave up with children alive"
                    self.over = reason

    def end(self, name: str, well: bool) -> None:
        expected = name in self.asked or name in self.killed
        kind = self.kinds[name]
        if not expected and (kind is Restart.PERMANENT or (kind is Restart.TRANSIENT and not well)) \
                and not self.core.stopping:
            self.charged.append(self.now)
        self.alive.pop(name)
        self.asked.pop(name, None)
        self.killed.discard(name)
        self.tell(self.core.exited(name, well, self.now))

    @rule(name=a_name, well=st.booleans())
    def dies(self, name: str, well: bool) -> None:
        if name in self.alive:
            before = dict(self.alive)
            unexpected = name not in self.asked and not self.core.stopping
            self.end(name, well)
            kind = self.kinds[name]
            if unexpected and not self.core.stopping and kind is Restart.PERMANENT:
                self.check_strategy(name, before)

    def check_strategy(self, name: str, before: dict[str, int]) -> None:
        """Those who restart with it have been told to stop."""
        later = NAMES[NAMES.index(name) + 1:]
        affected = {Strategy.ONE_FOR_ONE: (), Strategy.ONE_FOR_ALL: NAMES, Strategy.REST_FOR_ONE: later}[self.strategy]
        for other in affected:
            if other != name and other in before:
                assert other in self.asked

    @rule(seconds=st.sampled_from([0.1, 0.6, 3.0, 6.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tell(self.core.tick(self.now))

    @rule(chance=st.integers(0, 9))
    def stop(self, chance: int) -> None:
        if chance == 0 and self.over is False:
            first = not self.core.stopping
            self.told_to_stop = True
            self.tell(self.core.stop(self.now))
            if not first:
                assert self.killed == set(self.alive)

    @rule(name=a_name)
    def a_killed_one_goes(self, name: str) -> None:
        if name in self.killed:
            self.end(name, False)

    @invariant()
    def gives_up_exactly_when_the_budget_is_exceeded(self) -> None:
        recent = [moment for moment in self.charged if moment >= self.now - PERIOD_S]
        if self.core.stopping and not self.told_to_stop:
            assert len(self.charged) > INTENSITY
        if not self.core.stopping:
            assert len(recent) <= INTENSITY

    @invariant()
    def an_overdue_stop_is_forced(self) -> None:
        self.tell(self.core.tick(self.now))
        for name, since in self.asked.items():
            assert self.now < since + SHUTDOWN_S or name in self.killed
        assert self.core.next_deadline_s() > self.now

    @invariant()
    def the_core_knows_who_is_alive(self) -> None:
        up = {name for name, child in self.core.children.items() if child.phase is not ChildPhase.DOWN}
        assert up == set(self.alive)

    def teardown(self) -> None:
        """Liveness: told to stop twice, with children that die when killed, it ends."""
        if not hasattr(self, "core") or self.over is not False:
            return
        self.told_to_stop = True
        self.tell(self.core.stop(self.now))
        if self.over is False:
            self.tell(self.core.stop(self.now))
        for name in list(self.alive):
            self.end(name, False)
        assert self.over is not False


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
