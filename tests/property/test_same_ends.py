"""The inline engine and the real one, with real processes and Redis, give every task of a random program the same end.

A program submits tasks to paused queues, cancels some and changes the priority of others. Once the tasks that expire
have ended, it resumes the queues and waits for all; then it retries some. The engine is shared by all examples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from engine import Client, Scheduler
from engine.errors import MoveRefused
from engine.tasks.handler import REGISTRY
from engine.testing import Inline
from tests.property import same_ends_handlers
from tests.redis_server import RedisServer

EXAMPLES = 40
WAIT_S = 30.0
SOON_S = 0.03  # no task of a paused queue starts before this is over
HOWS = ["raises", "raises", "asks for a retry", "refuses", "exits", "cancels", "returns no JSON"]
SETTINGS = {"max_retries": 2, "retry_jitter": 0}


@dataclass
class Step:
    """One task and what is done to it."""

    queue: str
    payload: dict[str, Any]
    options: dict[str, Any]
    key: str | None  # idempotency key
    before: list[tuple[str, Any]] = field(default_factory=list)  # while it waits: cancel, set_priority
    is_retried: bool = False  # after its end

    @property
    def is_short(self) -> bool:
        """It expires before its queue is resumed."""
        return self.options.get("expires") == 2 * SOON_S


@some.composite
def steps(draw: some.DrawFn) -> Step:
    payload = {"times": draw(some.integers(0, 4)), "how": draw(some.sampled_from(HOWS)),
               "result": draw(some.sampled_from([None, 7, "text", [1, {"a": 2.5}]]))}
    options: dict[str, Any] = draw(some.fixed_dictionaries({}, optional={
        "priority": some.sampled_from(["low", "normal", "high", "urgent"]), "max_retries": some.integers(0, 3),
        "max_deliveries": some.just(1), "fair_key": some.sampled_from(["a", "b"]), "delay": some.just(SOON_S),
        "expires": some.sampled_from([2 * SOON_S, 3600.0]), "tags": some.just(["a tag"])}))
    step = Step(draw(some.sampled_from("ab")), payload, options, draw(some.sampled_from([None, None, "k"])))
    if not step.is_short:  # it may have expired by then
        step.before = draw(some.lists(some.sampled_from([("cancel", "why"), ("set_priority", "urgent")]), max_size=2))
    step.is_retried = draw(some.booleans())
    return step


def play(client: Client, program: Sequence[Step], prefix: str) -> list[Any]:
    """Run a program; return the refusals that it met and how each task ended, twice."""
    queues, told = [f"{prefix}a", f"{prefix}b"], list[Any]()
    for queue in queues:
        client.pause(queue)
    ids = [client.submit("same-ends", step.payload, queue=prefix + step.queue, idempotency_key=step.key, **step.options)
           for step in program]
    for step, task_id in zip(program, ids, strict=True):
        if not any(other.is_short for other, same in zip(program, ids, strict=True) if same == task_id):
            told += [refusal(client, task_id, *act) for act in step.before]
    client.wait([ids[n] for n, step in enumerate(program) if step.is_short and ids.index(ids[n]) == n], WAIT_S)
    for queue in queues:
        client.resume(queue)
    told += ends(client, ids)
    retried = dict.fromkeys(task_id for step, task_id in zip(program, ids, strict=True) if step.is_retried)
    told += [refusal(client, task_id, "retry") for task_id in retried]
    return told + ends(client, ids)


def refusal(client: Client, task_id: str, verb: str, *args: Any) -> str:
    try:
        getattr(client, verb)(task_id, *args)
    except MoveRefused as error:
        return f"{error.move}: {error.status}"
    return ""


def ends(client: Client, ids: Sequence[str]) -> list[Any]:
    """How each task ended, and each of its runs; equal ids as the number of the first."""
    return [(ids.index(task.id), str(task.status), task.cause, task.run, task.attempts, task.crashes,
             task.error and (task.error.kind, task.error.message), task.result, task.priority.name,
             [(one["run"], one["cause"]) for one in client.outcomes(task.id)])
            for task in client.wait(ids, WAIT_S)]


@pytest.fixture(scope="module")
def engine(redis_server: RedisServer) -> Iterator[Scheduler]:
    with redis_server.client() as client:
        client.flushall()
    kept = dict(REGISTRY)
    for name in [name for name in REGISTRY if name != "same-ends"]:
        del REGISTRY[name]
    assert "same-ends" in REGISTRY, same_ends_handlers
    with Scheduler(redis_url=redis_server.url, max_workers=2, **SETTINGS) as engine:
        yield engine
    REGISTRY.clear()
    REGISTRY.update(kept)


def test_inline_and_the_engine_give_the_same_ends(engine: Scheduler) -> None:
    numbers = count()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(some.lists(steps(), min_size=1, max_size=8))
    def check(program: list[Step]) -> None:
        prefix = f"n{next(numbers)}-"
        real = play(engine.client, program, prefix)
        assert play(Inline(**SETTINGS), program, prefix) == real

    check()
