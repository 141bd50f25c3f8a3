"""A short storm. `./dev chaos` lets one rage for as long as one likes."""

import pytest

from tests.chaos.storm.__main__ import play

SEED, RAGES_S, TASKS, OFTEN_S = 1, 12.0, 400, 0.6


@pytest.mark.timeout(200)
def test_the_ledger_of_a_storm_is_clean() -> None:
    assert play(SEED, RAGES_S, TASKS, OFTEN_S, print).is_clean
