"""What a pool does with output that belongs to no run."""

import logging

import orjson
import pytest

from engine.core.pool.slot import Phase
from engine.core.worker.frames import NO_RUN
from engine.ports.host import Logged
from engine.services.pool.run_output import START_TEXT_CHARS_MAX
from tests.unit.services.pool.pool_harness import PoolHarness


def test_output_of_a_start_hook_is_in_the_log_and_only_while_the_worker_starts(
        caplog: pytest.LogCaptureFixture) -> None:
    harness = PoolHarness()
    caplog.set_level(logging.INFO, "ganger.execution")
    row = orjson.dumps({"stream": "stdout", "level": None, "text": "x" * (2 * START_TEXT_CHARS_MAX)})
    unreadable = [Logged(0, NO_RUN, text) for text in (b"", b"[]", b"{}", b'{"stream":1,"level":2,"text":3}')]
    harness.host.happened = [Logged(0, NO_RUN, row)]  # it is up
    harness.turn()
    harness.host.happened = [harness.exit(0)]
    harness.turn(1.0)
    harness.turn(1.0)
    assert harness.pool.core.slots[0].phase is Phase.BOOTING
    harness.host.happened = [*unreadable, Logged(0, NO_RUN, row)]
    harness.turn()
    said = [record for record in caplog.records if record.message == "output of a start hook"]
    assert [(record.worker, record.text) for record in said] == [  # type: ignore[attr-defined]
        ("sup/0", "x" * START_TEXT_CHARS_MAX)]
