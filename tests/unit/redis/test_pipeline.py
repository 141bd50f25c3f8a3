"""Short runs that are sent ahead: what becomes of those that wait behind another in a worker's pipe."""

from engine.core.pool.actions import Interrupt, Kill, Send, Settle, TakeBack
from engine.core.pool.backlog import BACKLOG_S_MAX
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Run
from engine.core.pool.window import Windows
from engine.core.task.lifecycle import Move
from engine.core.task.limits import Limits
from engine.core.task.outcome import Cause
from engine.core.task.policy import RunPolicy
from engine.core.tree.restart import RestartBudget


def pool(tasks_max: int = 0) -> Dispatch:
    """One worker that is up, for runs that are known to be short."""
    windows = Windows(4)
    for _ in range(200):
        windows.observe("t", 0.0001)
    core = Dispatch(1, RestartBudget(5, 30.0), windows, Timing(cancel_grace_s=2.0), lambda: 0.0, tasks_max)
    core.start(0.0)
    core.booted(0, 100, 0.0)
    core.actions.clear()
    return core


def claim(core: Dispatch, *tokens: int, **policy: float) -> None:
    core.claimed([Run(b"%d" % token, 1, 0, 0, "t", "q", RunPolicy(**policy), b"", token) for token in tokens], 0.0)  # type: ignore[arg-type]


def sent(core: Dispatch) -> list[int]:
    return [command.run.token for command in core.actions if isinstance(command, Send)]


def settled(core: Dispatch) -> list[tuple[int, Move]]:
    return [(command.run.token, command.verdict.move) for command in core.actions if isinstance(command, Settle)]


def reply(core: Dispatch, token: int) -> None:
    core.replied(0, token, b"C", 0.0001, b"{}", 0.001)


def test_as_many_as_the_window_takes_are_sent_ahead() -> None:
    core = pool()
    assert core.room(0.0).runs == 4
    claim(core, 1, 2)
    assert core.room(0.0).runs == 2
    reply(core, 1)
    reply(core, 2)
    assert settled(core) == [(1, Move.COMPLETE), (2, Move.COMPLETE)]


def test_no_more_than_a_worker_may_run() -> None:
    core = pool(tasks_max=3)
    claim(core, 1, 2, 3, 4)
    assert sent(core) == [1, 2, 3]
    assert [run.token for run in core.backlog.runs] == [4]


def test_one_that_waits_in_the_pipe_is_cancelled_by_taking_it_back() -> None:
    core = pool()
    claim(core, 1, 2)
    core.cancel(b"2", "enough", 0.0)
    assert core.actions[-1] == TakeBack(0)
    core.taken_back(0, [2], 0.0)
    assert settled(core) == [(2, Move.CANCEL)]


def test_one_that_could_not_be_taken_back_is_interrupted_when_it_begins() -> None:
    core = pool()
    claim(core, 1, 2)
    core.cancel(b"2", "enough", 0.0)
    reply(core, 1)
    assert core.actions[-1] == Interrupt(0, 2, cancel=True)
    core.tick(3.0)
    assert core.actions[-1] == Kill(0)
    assert core.slots[0].kill_cause is Cause.CANCELLED


def test_one_that_waits_for_a_worker_is_cancelled_at_once_or_given_back_after_a_while() -> None:
    core = pool()
    claim(core, 1, 2, 3, 4, 5, 6)
    core.cancel(b"6", "enough", 0.0)
    assert settled(core) == [(6, Move.CANCEL)]
    core.tick(BACKLOG_S_MAX + 0.01)
    assert (5, Move.RELEASE) in settled(core)


def test_who_drains_takes_back_what_has_not_begun() -> None:
    core = pool()
    claim(core, 1, 2, 3)
    core.drain(0.0, 10.0)
    assert TakeBack(0) in core.actions
    core.taken_back(0, [2, 3], 0.0)
    assert settled(core) == [(3, Move.RELEASE), (2, Move.RELEASE)]


def test_a_run_is_interrupted_once_at_its_soft_timeout_and_killed_at_the_hard_one() -> None:
    core = pool()
    claim(core, 1, 2, timeout_s=2.0, soft_timeout_s=1.0)
    core.tick(0.02)
    assert core.actions[-1] == TakeBack(0)
    core.taken_back(0, [2], 0.02)
    core.tick(1.1)
    core.tick(1.2)
    assert [command for command in core.actions if isinstance(command, Interrupt)] == [Interrupt(0, 1, cancel=False)]
    core.tick(2.1)
    assert core.slots[0].kill_cause is Cause.TIMEOUT


def test_an_earlier_cancel_waits_for_its_grace() -> None:
    core = pool()
    claim(core, 1, timeout_s=60.0, soft_timeout_s=1.0)
    core.cancel(b"1", "enough", 0.5)
    core.tick(1.1)
    assert core.slots[0].kill_cause is None
    core.tick(2.6)
    assert core.slots[0].kill_cause is Cause.CANCELLED


def test_limits_are_told_by_the_names_of_the_options() -> None:
    limits = Limits(memory_bytes=1, cpu_s=2.0, processes=3, nice=4)
    assert limits.as_options() == {"max_memory": 1, "max_cpu_seconds": 2.0, "max_processes": 3, "nice": 4}
    assert limits.need_samples
    assert not Limits(nice=4).need_samples
