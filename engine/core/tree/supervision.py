"""Decides how a supervisor treats its children; does none of it.

The rules are OTP's (erlang/otp, supervisor.erl). A child is `permanent`
(always restarted), `transient` (restarted if it ended badly) or `temporary`
(never). When one is restarted, the strategy says which others restart with it.
More than `intensity` restarts within a period, and the supervisor stops all
children and gives up, so that whatever started it can decide.

A start that the host refuses, having no process or descriptor to give at the
moment, is no death: it is tried again after a pause, for as long as it takes.

`exited`, `not_started`, `stop`, `add`, `retire` and `tick` take what happened,
with the time, and return the actions to carry out in order.
`next_deadline_s()` says when to call `tick` if nothing happens.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum

from engine.core.tree.restart import RestartBudget

NEVER = float("inf")
REFUSED_PAUSE_S, REFUSED_PAUSE_S_MAX = 0.1, 5.0  # before the next try; doubled each time


class Restart(StrEnum):
    """When a child that has ended is started again."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class Strategy(StrEnum):
    """Which children are restarted with one that died."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"  # the one that died, and those started after it


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """`shutdown_s`: how long the child has to end when told to, before it is killed."""

    name: str
    restart: Restart = Restart.PERMANENT
    shutdown_s: float = 5.0


@dataclass(frozen=True, slots=True)
class StartChild:
    """Start the child."""

    name: str


@dataclass(frozen=True, slots=True)
class StopChild:
    """Ask the child to end."""

    name: str


@dataclass(frozen=True, slots=True)
class KillChild:
    """Kill the child, which had its time to end."""

    name: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Every child is down and none will be started again."""

    reason: str | None  # None: it was told to stop


Action = StartChild | StopChild | KillChild | GiveUp


class ChildPhase(Enum):
    """Whether a child has a process, and whether that is to end."""

    DOWN = "down"
    UP = "up"
    STOPPING = "stopping"  # told to end; `deadline_s` is when to kill it
    KILLED = "killed"


@dataclass(slots=True)
class ChildState:
    """One child, as the supervisor knows it."""

    spec: ChildSpec
    phase: ChildPhase = ChildPhase.DOWN
    deadline_s: float = NEVER
    wanted: bool = True  # to be started when it can be
    retired: bool = False  # to be forgotten when it is down
    restarts: int = 0
    refusals: int = 0  # in a row: the host had no process, descriptor or memory for it
    start_s: float = 0.0  # no start before this


class Supervision:
    """The children of one supervisor. See above for its calls."""

    def __init__(self, specs: Iterable[ChildSpec], budget: RestartBudget,
                 strategy: Strategy = Strategy.ONE_FOR_ONE) -> None:
        self.children = {spec.name: ChildState(spec) for spec in specs}
        self.budget, self.strategy = budget, strategy
        self.stopping = False
        self._reason: str | None = None
        self._start_s = 0.0  # no start before this: the pause after a death
        self._over = False

    def start(self, now_s: float) -> list[Action]:
        """Start every child."""
        return self._advance(now_s)

    def exited(self, name: str, well: bool, now_s: float) -> list[Action]:
        """A child's process is gone; `well` says that it ended by itself and with success."""
        child = self.children[name]
        expected = child.phase in (ChildPhase.STOPPING, ChildPhase.KILLED)
        child.phase, child.deadline_s = ChildPhase.DOWN, NEVER
        if not self.stopping and not expected:
            restart = child.spec.restart
            if restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and not well):
                return self._restart(child, now_s)
            child.wanted = False
        return self._advance(now_s)

    def not_started(self, name: str, now_s: float) -> list[Action]:
        """The host refused to start a child just now. Try again after a pause, which doubles with each refusal."""
        child = self.children[name]
        child.phase, child.deadline_s = ChildPhase.DOWN, NEVER
        child.start_s = now_s + min(REFUSED_PAUSE_S * 2.0 ** min(child.refusals, 30), REFUSED_PAUSE_S_MAX)
        child.refusals += 1
        return self._advance(now_s)

    def has_started(self, name: str) -> None:
        """A child that was to be started has a process."""
        self.children[name].refusals = 0

    def add(self, spec: ChildSpec, now_s: float) -> list[Action]:
        """Take one more child on, such as the successor of one that is about to be retired."""
        self.children[spec.name] = ChildState(spec)
        return self._advance(now_s)

    def retire(self, name: str, now_s: float) -> list[Action]:
        """Stop a child for good; it is forgotten when it is down."""
        child = self.children[name]
        child.wanted, child.retired = False, True
        return [*self._stop(child, now_s), *self._advance(now_s)]

    def stop(self, now_s: float) -> list[Action]:
        """Stop every child; a second call kills them."""
        if self.stopping:
            return [*self._kill_all(), *self._advance(now_s)]
        self.stopping = True
        return self._advance(now_s)

    def give_up(self, reason: str, now_s: float) -> list[Action]:
        """Stop every child, because what they need is not there; `reason` is what the last action will say."""
        if not self.stopping:
            self.stopping, self._reason = True, reason
        return self._advance(now_s)

    def tick(self, now_s: float) -> list[Action]:
        """Time has passed: kill children that were told to end and did not, and start those whose pause is over."""
        actions: list[Action] = []
        for child in self.children.values():
            if child.phase is ChildPhase.STOPPING and now_s >= child.deadline_s:
                actions += self._kill(child)
        return [*actions, *self._advance(now_s)]

    def next_deadline_s(self) -> float:
        """When to call `tick`, infinity if there is nothing to wait for."""
        deadline_s = min((child.deadline_s for child in self.children.values()), default=NEVER)
        waiting_s = min((max(self._start_s, child.start_s) for child in self.children.values()
                         if child.wanted and child.phase is ChildPhase.DOWN), default=NEVER)
        if not self.stopping and not self._is_held_up():
            return min(deadline_s, waiting_s)
        return deadline_s

    def _restart(self, dead: ChildState, now_s: float) -> list[Action]:
        dead.restarts += 1
        if not self.budget.spend(now_s):
            self.stopping, self._reason = True, f"{dead.spec.name} dies faster than the restart budget allows"
            return self._advance(now_s)
        self._start_s = now_s + self.budget.next_pause_s()
        actions: list[Action] = []
        for child in reversed(self._affected(dead)):
            actions += self._stop(child, now_s)
        return [*actions, *self._advance(now_s)]

    def _affected(self, dead: ChildState) -> list[ChildState]:
        """Those that are restarted with it, in the order of their start. A temporary child that ended stays ended."""
        if self.strategy is Strategy.ONE_FOR_ONE:
            return [dead]
        children = list(self.children.values())
        if self.strategy is Strategy.ONE_FOR_ALL:
            return children
        return children[[child is dead for child in children].index(True):]

    def _advance(self, now_s: float) -> list[Action]:
        """Whatever can be done now: stops of a shutdown, or starts when nothing is in their way."""
        for child in [child for child in self.children.values() if child.retired and child.phase is ChildPhase.DOWN]:
            del self.children[child.spec.name]
        if self.stopping:
            return self._shut_down(now_s)
        if now_s < self._start_s or self._is_held_up():
            return []
        actions: list[Action] = []
        for child in self.children.values():
            if child.wanted and child.phase is ChildPhase.DOWN and now_s >= child.start_s:
                child.phase = ChildPhase.UP
                actions.append(StartChild(child.spec.name))
        return actions

    def _is_held_up(self) -> bool:
        """Whether a child that is to be restarted has not ended yet."""
        going = (ChildPhase.STOPPING, ChildPhase.KILLED)
        return any(child.wanted and child.phase in going for child in self.children.values())

    def _shut_down(self, now_s: float) -> list[Action]:
        """All at once, unlike OTP: no child needs another, and two pools then drain in the time of one."""
        if self._over:
            return []
        if all(child.phase is ChildPhase.DOWN for child in self.children.values()):
            self._over = True
            return [GiveUp(self._reason)]
        return [action for child in reversed(self.children.values()) for action in self._stop(child, now_s)]

    def _stop(self, child: ChildState, now_s: float) -> list[Action]:
        if child.phase is not ChildPhase.UP:
            return []
        child.phase, child.deadline_s = ChildPhase.STOPPING, now_s + child.spec.shutdown_s
        return [StopChild(child.spec.name)]

    def _kill(self, child: ChildState) -> list[Action]:
        child.phase, child.deadline_s = ChildPhase.KILLED, NEVER
        return [KillChild(child.spec.name)]

    def _kill_all(self) -> list[Action]:
        alive = [child for child in self.children.values() if child.phase in (ChildPhase.UP, ChildPhase.STOPPING)]
        return [action for child in reversed(alive) for action in self._kill(child)]
