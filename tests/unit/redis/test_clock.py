"""The clock of a process: Redis's time, carried on by the monotonic one."""

import time

import pytest

from engine.adapters import clock as module
from engine.adapters.clock import STALE_S, RedisClock


def test_before_the_first_calibration_it_is_the_hosts() -> None:
    clock = RedisClock()
    assert abs(clock.now_ms() - time.time() * 1000) < 1000
    assert clock.is_stale
    assert abs(clock.skew_ms) < 1000


def test_redis_time_is_dated_to_the_middle_of_the_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = RedisClock()
    clock.calibrate(5_000_000.0, sent_s=100.0, received_s=100.2)
    monkeypatch.setattr(module.time, "monotonic", lambda: 100.1)
    assert clock.now_ms() == 5_000_000
    monkeypatch.setattr(module.time, "monotonic", lambda: 101.1)
    assert clock.now_ms() == 5_001_000
    assert clock.skew_ms == pytest.approx(time.time() * 1000 - 5_001_000, abs=5_000)


def test_it_grows_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = RedisClock()
    clock.calibrate(1.0, sent_s=100.0, received_s=100.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: 100.0 + STALE_S)
    assert not clock.is_stale
    monkeypatch.setattr(module.time, "monotonic", lambda: 100.1 + STALE_S)
    assert clock.is_stale
