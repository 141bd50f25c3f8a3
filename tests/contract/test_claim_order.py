"""Which tasks start next, and in which order: Redis gives those that the reference model chooses, one by one.

The clock is set, so that both see the same moments. The supervisor knows the type of every task: in Redis, a task of
another type leaves its lane for one of its own.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from engine.adapters.clock import RedisClock
from engine.core.task.priority import TaskPriority
from engine.testing.model import ReferenceModel
from tests.redis_server import RedisServer
from tests.scripts.broker_rig import BrokerRig
from tests.scripts.test_step import Supervisor

QUEUES, LEVELS = ["a", "b"], [TaskPriority.NORMAL, TaskPriority.HIGH]  # few, so that many tasks share a lane
NAME = "sup"


class SetClock(RedisClock):
    """Shows what it was set to."""

    is_stale = False

    def __init__(self, at_ms: int) -> None:
        super().__init__()
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms


submits = some.tuples(some.just("submit"), some.sampled_from(QUEUES), some.sampled_from(LEVELS),
                      some.sampled_from(["", "x", "y"]))
claims = some.tuples(some.just("claim"), some.integers(1, 6))
pauses = some.tuples(some.sampled_from(["pause", "resume"]), some.sampled_from(QUEUES))


@pytest.mark.parametrize("ageing_ms", [0, 30])
@pytest.mark.parametrize("served", [[], ["b"]], ids=["all", "one"])
def test_redis_chooses_as_the_model_does(redis_server: RedisServer, ageing_ms: int, served: list[str]) -> None:
    rig = BrokerRig(redis_server)

    @settings(max_examples=30, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(some.lists(some.tuples(some.integers(1, 50), submits | submits | submits | claims | pauses),
                      min_size=10, max_size=40))
    def check(steps: list[tuple[int, Any]]) -> None:
        rig.client.flushall()
        rig.broker.redis.clock = clock = SetClock(rig.now_ms)
        model, supervisor = ReferenceModel(), Supervisor(rig, NAME, *served, ageing_ms=ageing_ms)
        model.supervisor.register(NAME, ["t"])
        model.store.supervisor(NAME).queues = frozenset(served) if served else None
        for pause_ms, (verb, *args) in [*steps, *((1, ("resume", queue)) for queue in QUEUES), (1, ("claim", 50))]:
            clock.at_ms += pause_ms
            supervisor.clock_ms = clock.at_ms
            match verb:
                case "submit":
                    queue, priority, fair_key = args
                    new = rig.new(queue, priority, **({"fair_key": fair_key} if fair_key else {}))
                    assert rig.broker.submit([new]) == [model.client.submit(new.id, new.record, clock.at_ms)]
                case "claim":
                    chosen = model.supervisor.choose(NAME, args[0], clock.at_ms, ageing_ms)
                    assert supervisor.claim(args[0]) == chosen
                    model.supervisor.start(NAME, chosen, clock.at_ms)
                case "pause":
                    rig.broker.pause(args[0])
                    model.client.pause(args[0])
                case "resume":
                    rig.broker.resume(args[0])
                    model.client.resume(args[0], clock.at_ms)

    try:
        check()
    finally:
        rig.close()
