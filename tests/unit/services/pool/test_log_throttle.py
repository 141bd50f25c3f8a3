"""What is written to the log while Redis is away."""

import logging

import pytest

from engine.ports.supervisor_broker import Joined, Parted
from engine.services.pool.log_throttle import AGAIN_S, LogThrottle
from tests.unit.services.pool.pool_harness import PoolHarness


def test_the_same_is_news_once_a_minute_and_another_reason_at_once() -> None:
    throttle = LogThrottle()
    assert throttle.should_log("refused", 0.0)
    assert not throttle.should_log("refused", AGAIN_S - 0.1)
    assert throttle.should_log("refused", AGAIN_S)
    assert throttle.should_log("timeout", AGAIN_S + 1)
    assert throttle.should_log("refused", AGAIN_S + 2)
    throttle.reset()
    assert throttle.should_log("refused", AGAIN_S + 3)


def test_an_outage_is_a_line_of_the_log_and_not_one_for_each_try(caplog: pytest.LogCaptureFixture) -> None:
    harness = PoolHarness()
    with caplog.at_level(logging.WARNING, "ganger.execution"):
        for happened in ([Parted("refused", [])], [Parted("refused", [])], [Joined()], [Parted("refused", [])]):
            harness.broker.happened = happened
            harness.turn()
    assert [record.message for record in caplog.records].count("Redis is away") == 2
