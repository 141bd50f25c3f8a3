"""Which ways of starting workers suit a handler, and what is said where none does."""

import pytest

from engine import handler
from engine.config.model import PoolSettings, Settings
from engine.config.sizes import starting
from engine.core.worker.start_method import Starting, misfit
from engine.errors import InvalidOption

FORK, EMPTY, SPAWN = Starting(), Starting("fork", preload=False), Starting("spawn")


@pytest.mark.parametrize(("method", "preload", "suits"), [
    (None, None, [True, True, True]),
    ("fork", None, [True, True, False]),
    ("spawn", None, [False, False, True]),
    (None, True, [True, False, False]),
    (None, False, [False, True, True]),
    ("fork", False, [False, True, False]),
    ("spawn", False, [False, False, True]),
])
def test_what_a_handler_asks_for_suits_some_pools(method: str | None, preload: bool | None,
                                                  suits: list[bool]) -> None:
    assert [way.suits(method, preload) for way in (FORK, EMPTY, SPAWN)] == suits


def test_a_handler_that_suits_no_pool_is_told_with_the_remedy() -> None:
    said = misfit("train", "spawn", None, "default", FORK, [EMPTY])
    assert said is not None
    assert "'train' asks for start_method = \"spawn\", and no pool has that" in said
    assert "[pools.NAME] with start_method = \"spawn\"" in said


def test_a_handler_that_suits_another_pool_is_left_to_it_in_silence() -> None:
    assert misfit("train", "spawn", None, "default", FORK, [SPAWN]) == ""
    assert misfit("train", None, None, "default", FORK, []) is None


def test_a_pool_goes_before_the_engine() -> None:
    empty = PoolSettings(start_method="fork", preload=False)
    settings = Settings(start_method="spawn", pools={
        "a": PoolSettings(), "b": PoolSettings(start_method="fork"), "c": empty})
    assert [starting(settings, pool) for pool in "abc"] == [SPAWN, FORK, EMPTY]


def test_another_method_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"start_method.*fork.*spawn"):
        handler("x", start_method="thread")(len)
