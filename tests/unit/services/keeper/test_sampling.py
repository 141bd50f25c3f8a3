"""When the samples of the processes of a tree are published."""

from engine.services.keeper.sampling import QUIET_S, SamplePacing

IDLE, BUSY, UNKNOWN = {"cpu_percent": 0.1}, {"cpu_percent": 60.0}, {"cpu_percent": None}


def test_a_quiet_tree_is_told_of_now_and_then() -> None:
    sampling = SamplePacing()
    assert [sampling.is_due({1: IDLE, 2: UNKNOWN}, now_s) for now_s in (0.0, 1.0, 4.9, QUIET_S, 6.0)] == [
        True, False, False, True, False]


def test_samples_are_awaited_while_something_goes_on_and_when_it_is_time() -> None:
    sampling = SamplePacing()
    assert sampling.is_awaited(0.0)
    sampling.is_due({1: BUSY}, 0.0)
    assert sampling.is_awaited(1.0)
    sampling.is_due({1: IDLE}, 1.0)
    assert not sampling.is_awaited(2.0)
    assert sampling.is_awaited(QUIET_S)


def test_work_and_new_or_lost_processes_are_told_of_at_once() -> None:
    sampling = SamplePacing()
    sampling.is_due({1: IDLE, 2: IDLE}, 0.0)
    assert sampling.is_due({1: IDLE, 2: BUSY}, 1.0)
    assert sampling.is_due({1: IDLE, 2: IDLE, 3: IDLE}, 2.0)
    assert sampling.is_due({1: IDLE}, 3.0)
    assert not sampling.is_due({1: IDLE}, 4.0)
