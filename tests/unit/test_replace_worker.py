"""A worker that somebody wants replaced by a fresh one."""

from engine.core.commands import Kill, Quit, Spawn
from engine.core.dispatch import Dispatch, Timing
from engine.core.policy import RunPolicy
from engine.core.restart import RestartBudget
from engine.core.retry import RetryPolicy
from engine.core.slot import Phase, Run
from engine.core.window import Windows


def one_worker() -> Dispatch:
    core = Dispatch(1, RestartBudget(5, 30.0), Windows(1), Timing(), lambda: 0.0)
    core.start(0.0)
    core.booted(0, 100, 0.0)
    core.commands.clear()
    return core


def run() -> Run:
    policy = RunPolicy(timeout_s=60, soft_timeout_s=0, result_ttl_s=1, failed_ttl_s=1, retry=RetryPolicy())
    return Run(b"a", 1, 0, 0, "noop", "q", policy, b"", 1)


def test_an_idle_one_quits() -> None:
    core = one_worker()
    core.replace(0, 1.0)
    assert core.commands == [Quit(0)]


def test_a_busy_one_quits_when_it_has_answered() -> None:
    core = one_worker()
    core.claimed([run()], 0.0)
    core.commands.clear()
    core.replace(0, 1.0)
    assert Quit(0) not in core.commands
    core.replied(0, 1, b"C", 1.0, b"{}", 2.0)
    assert Quit(0) in core.commands


def test_at_once_it_is_killed_and_a_fresh_one_started() -> None:
    core = one_worker()
    core.replace(0, 1.0, at_once=True)
    core.replace(0, 1.0, at_once=True)  # one that goes already
    assert core.commands == [Kill(0)]
    assert core.slots[0].phase is Phase.DYING
    core.exited(0, lambda run: None, [], 2.0)  # type: ignore[arg-type, return-value]
    assert Spawn(0) in core.commands
