"""A worker that is to be replaced by a fresh one: that is ready before it goes."""

from engine.core.pool.actions import Halt, Interrupt, Kill, Quit, Send, Spawn
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Phase, Run
from engine.core.pool.window import Windows
from engine.core.task.limits import Limits
from engine.core.task.outcome import Outcome
from engine.core.task.policy import RunPolicy
from engine.core.tree.restart import RestartBudget


def one_worker(tasks_max: int = 0, intensity: int = 5) -> Dispatch:
    core = Dispatch(1, RestartBudget(intensity, 30.0), Windows(1), Timing(), lambda: 0.0, tasks_max)
    core.start(0.0)
    core.booted(0, 100, 0.0)
    return core


def run(token: int = 1, limits: Limits | None = None) -> Run:
    return Run(b"%d" % token, 1, 0, 0, "noop", "q", RunPolicy(60.0, limits=limits), b"", token, limits is not None)


def serve(core: Dispatch, index: int, token: int) -> None:
    core.claimed([run(token)], 0.0)
    core.replied(index, token, b"C", 1.0, b"{}", 1.0)


def death(run: Run) -> Outcome:
    return Outcome.killed(run.number, "SIGKILL")


def phases(core: Dispatch) -> list[tuple[Phase, bool]]:
    return [(slot.phase, slot.counts_toward_size) for slot in core.slots]


def test_an_idle_one_goes_when_its_replacement_is_there() -> None:
    core = one_worker()
    core.actions.clear()
    core.replace(0, 1.0)
    core.replace(0, 1.0)  # once is enough
    assert core.actions == [Spawn(1)]
    core.booted(1, 101, 1.1)
    assert core.actions == [Spawn(1), Quit(0)]
    assert phases(core) == [(Phase.QUITTING, False), (Phase.UP, True)]
    core.exited(0, death, [], 1.2)
    assert phases(core) == [(Phase.DOWN, False), (Phase.UP, True)]
    core.replace(1, 2.0)
    assert core.actions[-1] == Spawn(0)  # the free slot


def test_a_busy_one_goes_on_until_it_has_answered_and_its_replacement_does_nothing_before() -> None:
    core = one_worker()
    core.claimed([run()], 0.0)
    core.replace(0, 1.0)
    core.booted(1, 101, 1.1)
    core.claimed([run(2)], 1.2)
    assert core.slots[1].phase is Phase.STANDBY
    assert not core.slots[1].runs
    core.replied(0, 1, b"C", 1.0, b"{}", 2.0)
    core.fill(2.0)
    assert [action.slot for action in core.actions if isinstance(action, Send)] == [0, 1]
    assert Quit(0) in core.actions


def test_at_once_it_is_killed_and_a_fresh_one_started() -> None:
    core = one_worker()
    core.actions.clear()
    core.replace(0, 1.0, at_once=True)
    core.replace(0, 1.0, at_once=True)  # one that goes already
    assert core.actions == [Kill(0)]
    core.exited(0, death, [], 2.0)
    assert Spawn(0) in core.actions


def test_the_replacement_of_one_that_has_served_its_number_is_started_ahead() -> None:
    core = one_worker(tasks_max=3)
    serve(core, 0, 1)
    assert Spawn(1) not in core.actions
    serve(core, 0, 2)
    core.booted(1, 101, 1.0)
    assert phases(core) == [(Phase.UP, True), (Phase.STANDBY, False)]
    serve(core, 0, 3)
    assert phases(core) == [(Phase.QUITTING, False), (Phase.UP, True)]


def test_each_run_in_a_worker_of_its_own_has_the_next_one_waiting() -> None:
    core = one_worker(tasks_max=1)
    core.booted(1, 101, 0.0)
    serve(core, 0, 1)
    assert phases(core) == [(Phase.QUITTING, False), (Phase.UP, True)]
    assert Spawn(0) not in core.actions[1:]  # while there are two processes for one that counts
    core.exited(0, death, [], 1.0)
    assert phases(core) == [(Phase.BOOTING, False), (Phase.UP, True)]
    core.booted(0, 102, 1.0)
    serve(core, 1, 2)
    assert phases(core) == [(Phase.UP, True), (Phase.QUITTING, False)]


def test_one_that_finds_no_room_for_a_replacement_goes_without() -> None:
    core = one_worker(tasks_max=1)
    core.booted(1, 101, 0.0)
    serve(core, 0, 1)
    serve(core, 1, 2)
    assert phases(core) == [(Phase.QUITTING, False), (Phase.QUITTING, True)]
    core.exited(1, death, [], 1.0)
    assert phases(core) == [(Phase.QUITTING, False), (Phase.BOOTING, True)]


def test_a_replacement_that_has_not_booted_takes_over_all_the_same() -> None:
    core = one_worker(tasks_max=1)
    serve(core, 0, 1)
    assert phases(core) == [(Phase.QUITTING, False), (Phase.BOOTING, True)]
    core.booted(1, 101, 1.0)
    assert phases(core) == [(Phase.QUITTING, False), (Phase.UP, True)]


def test_a_replacement_takes_over_from_one_that_dies() -> None:
    core = one_worker()
    core.claimed([run()], 0.0)
    core.replace(0, 1.0)
    core.booted(1, 101, 1.1)
    core.exited(0, death, [], 1.2)
    assert phases(core) == [(Phase.DOWN, False), (Phase.UP, True)]


def test_a_worker_whose_replacement_does_not_boot_goes_without() -> None:
    core = one_worker()
    core.replace(0, 1.0)
    core.exited(1, death, [], 1.1)
    assert phases(core) == [(Phase.QUITTING, False), (Phase.BOOTING, True)]


def test_replacements_that_die_are_charged_as_all_are_that_die_idle() -> None:
    core = one_worker(tasks_max=2, intensity=0)
    serve(core, 0, 1)
    assert phases(core) == [(Phase.UP, True), (Phase.BOOTING, False)]
    core.exited(1, death, [], 1.1)
    assert any(isinstance(action, Halt) for action in core.actions)


def test_one_that_was_interrupted_is_not_used_again() -> None:
    core = one_worker()
    core.claimed([run()], 0.0)
    core.cancel(b"1", "enough", 1.0)
    assert Interrupt(0, 1, cancel=True) in core.actions
    core.replied(0, 1, b"I", 1.0, b'{"error":{}}', 2.0)
    assert phases(core) == [(Phase.QUITTING, False), (Phase.BOOTING, True)]


def test_the_replacement_of_a_nice_run_is_started_with_it() -> None:
    core = one_worker()
    core.claimed([run(limits=Limits(nice=5))], 0.0)
    core.booted(1, 101, 0.1)
    core.replied(0, 1, b"C", 1.0, b"{}", 2.0)
    assert phases(core) == [(Phase.QUITTING, False), (Phase.UP, True)]


def test_replacements_go_when_the_pool_drains() -> None:
    core = one_worker()
    core.claimed([run()], 0.0)
    core.replace(0, 1.0)
    core.booted(1, 101, 1.1)
    core.drain(2.0, 10.0)
    assert core.slots[1].phase is Phase.QUITTING
    core.replace(0, 2.0)
    core.replied(0, 1, b"C", 1.0, b"{}", 3.0)
    core.exited(0, death, [], 3.0)
    core.exited(1, death, [], 3.0)
    assert core.is_empty
