"""When the processes of a tree are looked at again."""

from engine.services.keeper.sampling import QUIET_INTERVAL_S, Sampling

IDLE, BUSY, UNKNOWN = {"cpu_percent": 0.1}, {"cpu_percent": 60.0}, {"cpu_percent": None}


def test_a_quiet_tree_is_looked_at_less_often_from_the_second_time_on() -> None:
    sampling = Sampling(1.0)
    assert [sampling.rest_s({1: IDLE, 2: UNKNOWN}) for _ in range(3)] == [1.0, QUIET_INTERVAL_S, QUIET_INTERVAL_S]


def test_work_and_new_or_lost_processes_are_followed_at_the_interval() -> None:
    sampling = Sampling(1.0)
    sampling.rest_s({1: IDLE, 2: IDLE})
    assert sampling.rest_s({1: IDLE, 2: BUSY}) == 1.0
    assert sampling.rest_s({1: IDLE, 2: IDLE, 3: IDLE}) == 1.0
    assert sampling.rest_s({1: IDLE}) == 1.0


def test_a_longer_interval_that_somebody_has_set_stays() -> None:
    sampling = Sampling(60.0)
    assert [sampling.rest_s({1: IDLE}) for _ in range(2)] == [60.0, 60.0]
