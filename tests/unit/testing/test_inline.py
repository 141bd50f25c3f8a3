"""The inline engine: real checks, outcomes and retries, in one process and in its own time."""

import logging
from typing import Any

import pytest
from pydantic import BaseModel

from engine import Cancel, Context, Retry, SoftTimeout, TaskStatus, handler
from engine.errors import (
    GangerError,
    InvalidOption,
    InvalidPayload,
    MoveRefused,
    ResultNotReady,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    TaskTimedOut,
    UnknownHandler,
)
from engine.tasks.handler_spec import REGISTRY
from engine.testing import FakeClock, Inline


class Order(BaseModel):
    book: str
    copies: int = 1


@handler("inline-shortcut")
def shortcut(payload: Order) -> str:
    return payload.book * payload.copies


class Flaky:
    """Fails as often as it is told, then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.runs = list(errors), 0

    def __call__(self, payload: Any) -> str:
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def inline(function: Any = None, **options: Any) -> Inline:
    engine = Inline(**options.pop("inline", {}))
    engine.register_handler("x", function if function is not None else lambda payload: payload, **options)
    return engine


def failing(*errors: BaseException, **options: Any) -> tuple[Inline, Flaky]:
    flaky = Flaky(*errors)
    return inline(lambda payload: flaky(payload), **options), flaky


def test_a_task_runs_as_it_is_submitted() -> None:
    engine = inline(lambda payload: {"twice": payload["n"] * 2}, queue="numbers", priority="high")
    task_id = engine.submit("x", {"n": 4}, name="double", tags=["a"])
    assert engine.result(task_id) == {"twice": 8}
    task = engine.get(task_id)
    assert (task.status, task.queue, task.name, task.tags) == (TaskStatus.COMPLETED, "numbers", "double", ["a"])
    assert (task.run, task.attempts, task.cause, task.error) == (1, 0, "returned", None)
    assert task.created_at == task.started_at == task.ended_at == engine.clock.now
    assert task.model_dump(mode="json")["priority"] == "HIGH"
    assert type(task).model_validate_json(task.model_dump_json()) == task


def test_the_checks_at_submit_are_the_engines() -> None:
    def typed(payload: Order) -> int:
        return payload.copies

    engine = inline(typed)
    assert engine.result(engine.submit("x", {"book": "Emma"})) == 1
    with pytest.raises(InvalidPayload, match=r"payload\.book"):
        engine.submit("x", {"copies": 1})
    with pytest.raises(InvalidOption):
        engine.submit("x", {"book": "Emma"}, delay=-1)
    with pytest.raises(UnknownHandler, match="did you mean"):
        engine.submit("xx")
    assert engine.counters()["submitted"] == 1


def test_there_are_no_handlers_but_its_own() -> None:
    with pytest.raises(UnknownHandler):
        Inline().submit("surely not registered")


def test_a_failure_is_tried_again_in_its_time() -> None:
    engine, flaky = failing(ValueError("one"), ValueError("two"), max_retries=2, retry_backoff_s=10, retry_factor=3)
    task_id = engine.submit("x")
    task = engine.get(task_id)
    assert (task.status, task.attempts, task.cause) == (TaskStatus.RETRYING, 1, "raised")
    assert task.error is not None
    assert (task.error.kind, task.error.message) == ("ValueError", "one")
    assert "in __call__" in (task.error.traceback or "")
    with pytest.raises(ResultNotReady, match="still RETRYING"):
        engine.result(task_id)
    engine.advance(9.9)
    assert flaky.runs == 1
    engine.advance(0.1)
    assert flaky.runs == 2
    engine.advance(29.9)
    assert flaky.runs == 2
    engine.advance(0.1)
    assert engine.result(task_id) == "done"
    assert engine.get(task_id).attempts == 2
    assert [one["cause"] for one in engine.outcomes(task_id)] == ["raised", "raised", "returned"]


def test_retries_end() -> None:
    engine, flaky = failing(*[OSError("away")] * 9, max_retries=2)
    task_id = engine.submit("x")
    with pytest.raises(TaskFailed, match="OSError: away") as failure:
        engine.result(task_id, wait=3600)
    assert flaky.runs == 3
    assert (failure.value.kind, failure.value.cause, failure.value.status) == ("OSError", "raised", "FAILED")


@pytest.mark.parametrize(("errors", "options", "runs"), [
    ([KeyError("k")], {"retry_on": (ValueError,)}, 1), ([ValueError("v")], {"no_retry_on": ValueError}, 1),
    ([ValueError("v")], {"max_retries": 0}, 1), ([ValueError("v")], {"max_deliveries": 1}, 1),
    ([SystemExit(3)], {"max_retries": 1}, 2)])
def test_what_is_not_tried_again(errors: list[BaseException], options: dict[str, Any], runs: int) -> None:
    engine, flaky = failing(*errors, **options)
    task_id = engine.submit("x")
    engine.advance(3600)
    assert flaky.runs == runs
    assert engine.status(task_id) is (TaskStatus.FAILED if runs == 1 else TaskStatus.COMPLETED)


def test_jitter_takes_its_chance() -> None:
    engine, flaky = failing(ValueError(), retry_backoff_s=10, retry_jitter=0.5, inline={"chance": 0.5})
    engine.submit("x")
    engine.advance(7.4)
    assert flaky.runs == 1
    engine.advance(0.1)
    assert flaky.runs == 2


def test_a_handler_may_ask_for_another_run() -> None:
    engine, flaky = failing(Retry("busy", after=90))
    task_id = engine.submit("x")
    assert engine.get(task_id).cause == "retry_asked"
    engine.advance(89)
    assert flaky.runs == 1
    assert engine.result(task_id, wait=1) == "done"


def test_a_handler_may_cancel() -> None:
    engine, _ = failing(Cancel("not needed"))
    task_id = engine.submit("x")
    with pytest.raises(TaskCancelled, match="not needed"):
        engine.result(task_id)


def test_a_soft_timeout_that_leaves_the_handler_ends_the_task() -> None:
    engine, _ = failing(SoftTimeout())
    assert engine.status(engine.submit("x")) is TaskStatus.TIMEOUT


def test_a_handler_that_lets_the_clock_pass_its_timeout_has_timed_out() -> None:
    engine = Inline()
    engine.register_handler("slow", lambda payload: engine.clock.advance(payload), timeout=30)
    assert engine.result(engine.submit("slow", 29)) is None
    task_id = engine.submit("slow", 30)
    with pytest.raises(TaskTimedOut, match="timeout of 30 s"):
        engine.result(task_id)
    assert engine.status(engine.submit("slow", 30, timeout=60)) is TaskStatus.COMPLETED


@pytest.mark.parametrize(("result", "words"), [({1}, "not JSON"), ("x" * 2000, "over the limit of 1,024")])
def test_a_result_that_cannot_be_kept_fails_at_once(result: Any, words: str) -> None:
    engine = inline(lambda payload: result, inline={"result_bytes_max": 1024})
    task_id = engine.submit("x")
    with pytest.raises(TaskFailed, match=words) as failure:
        engine.result(task_id)
    assert failure.value.cause == "invalid_result"


def test_a_delayed_task_waits_for_its_moment() -> None:
    engine = inline()
    task_id = engine.submit("x", 1, delay=60)
    task = engine.get(task_id)
    assert task.status is TaskStatus.PENDING
    assert task.due_at is not None
    assert (task.due_at - engine.clock.now).total_seconds() == 60
    engine.advance(59.999)
    assert engine.status(task_id) is TaskStatus.PENDING
    engine.advance(0.001)
    assert engine.result(task_id) == 1


def test_a_retried_task_is_not_started_after_it_has_expired() -> None:
    engine = inline()
    engine.register_handler("fails", lambda payload: 1 / 0, retry_backoff_s=30, retry_factor=1)
    late, soon = engine.submit("fails", expires=20), engine.submit("fails", expires=40)
    engine.advance(100)
    assert [(engine.get(task_id).cause, engine.get(task_id).run) for task_id in (late, soon)] == [
        ("expired", 2), ("expired", 3)]
    assert [one["cause"] for one in engine.outcomes(late)] == ["raised", "expired"]
    engine.retry(late)  # somebody asks for it: it is run, and expires once it would be tried again
    assert (engine.get(late).status, engine.get(late).run) == (TaskStatus.RETRYING, 3)
    engine.advance(100)
    assert engine.get(late).cause == "expired"


def test_a_task_that_nobody_starts_in_time_expires() -> None:
    engine = inline()
    engine.pause("default")
    task_id = engine.submit("x", 1, expires=60)
    engine.advance(60)
    engine.resume("default")
    assert engine.get(task_id).cause == "expired"
    with pytest.raises(TaskFailed, match="before its time was over"):
        engine.result(task_id)


def test_waiting_lets_time_pass() -> None:
    engine = inline()
    before = engine.clock.now
    task_id = engine.submit("x", 1, delay=3600)
    with pytest.raises(ResultNotReady, match="still PENDING after 60 s"):
        engine.result(task_id, wait=60)
    assert (engine.clock.now - before).total_seconds() == 60
    assert engine.result(task_id, wait=86_400) == 1
    assert (engine.clock.now - before).total_seconds() == 3600
    ids = [engine.submit("x", n, delay=n) for n in range(3)]
    assert [task.result for task in engine.wait(ids)] == [0, 1, 2]


def test_waiting_for_ever_for_nothing_is_an_error() -> None:
    engine = inline()
    engine.pause("default")
    with pytest.raises(GangerError, match="never end"):
        engine.wait([engine.submit("x")])


def test_tasks_start_in_the_order_of_their_priority() -> None:
    order: list[int] = []
    engine = inline(lambda payload: order.append(payload), inline={"eager": False})
    ids = [engine.submit("x", n, priority=priority) for n, priority in enumerate(["low", "urgent", "normal", "urgent"])]
    engine.set_priority(ids[2], "urgent")
    assert engine.queue_stats()[0].queued == {"URGENT": 3, "HIGH": 0, "NORMAL": 0, "LOW": 1}
    assert engine.run() == 4
    assert order == [1, 3, 2, 0], "a task that changes its priority is the last of the new one"
    with pytest.raises(MoveRefused, match=r"cannot change the priority of task .* COMPLETED"):
        engine.set_priority(ids[0], "low")


def test_the_tasks_of_one_fair_key_queue_up_behind_themselves() -> None:
    order: list[str] = []
    engine = inline(lambda payload: order.append(payload), inline={"eager": False})
    for name in ("a1", "a2", "a3", "b1"):
        engine.submit("x", name, fair_key=name[0])
    engine.run()
    assert order == ["a1", "b1", "a2", "a3"]


def test_queues_take_turns() -> None:
    order: list[str] = []
    engine = inline(lambda payload: order.append(payload), inline={"eager": False})
    for name in ("a1", "a2", "a3", "b1"):
        engine.submit("x", name, queue=name[0])
    engine.run()
    assert order == ["a1", "b1", "a2", "a3"]


def test_an_idempotency_key_is_free_again_once_its_task_is_deleted() -> None:
    engine = inline()
    first = engine.submit("x", 1, idempotency_key="k")
    engine.delete([first])
    assert engine.submit("x", 2, idempotency_key="k") != first


def test_waiting_tasks_can_be_cancelled_and_retried() -> None:
    engine = inline(inline={"eager": False})
    task_id = engine.submit("x", 1)
    assert engine.cancel(task_id, "no more") is TaskStatus.CANCELLED
    with pytest.raises(MoveRefused):
        engine.cancel(task_id)
    engine.retry(task_id)
    assert engine.result(task_id, wait=0) == 1 if engine.run() else None
    with pytest.raises(MoveRefused):
        engine.retry(task_id)
    assert [engine.submit("x") for _ in range(3)]
    assert engine.purge("default") == 3
    assert engine.counts()["CANCELLED"] == 3
    assert len(engine.retry_many(status="cancelled")) == 3


def test_a_task_cancelled_while_it_runs_is_cancelled() -> None:
    engine = Inline()

    def handler(payload: Any, ctx: Context) -> int:
        assert engine.status(ctx.task_id) is TaskStatus.RUNNING
        assert engine.cancel(ctx.task_id, "on second thoughts") is TaskStatus.RUNNING
        return 1

    engine.register_handler("x", handler)
    with pytest.raises(TaskCancelled, match="on second thoughts"):
        engine.result(engine.submit("x"))


def test_a_handler_that_submits_is_followed_by_its_task() -> None:
    engine = Inline()
    engine.register_handler("parent", lambda payload: engine.submit("child", payload))
    engine.register_handler("child", lambda payload: payload + 1)
    child = engine.result(engine.submit("parent", 1))
    assert engine.result(child) == 2


def test_progress_logs_and_the_context() -> None:
    engine, seen = Inline(), []

    def handler(payload: Any, ctx: Context) -> None:
        ctx.progress(0.5, "half")
        seen.append(engine.get(ctx.task_id).progress)
        ctx.logger.warning("at %s", "work")
        seen.append((ctx.run, ctx.attempt, ctx.name))
        raise Retry if ctx.run == 1 else Cancel

    engine.register_handler("x", handler)
    task_id = engine.submit("x", name="cover")
    engine.advance(10)
    assert (seen[0].fraction, seen[0].message) == (0.5, "half")
    assert [seen[1], seen[3]] == [(1, 1, "cover"), (2, 2, "cover")]
    assert engine.get(task_id).progress is None
    assert [(line.run, line.level, line.text) for line in engine.logs(task_id)] == [
        (1, "WARNING", "at work"), (2, "WARNING", "at work")]
    assert not any(type(one).__name__ == "Keeper" for one in logging.getLogger().handlers)


def test_results_and_keys_have_their_time() -> None:
    engine = inline(result_ttl=60, inline={"idempotency_ttl_s": 30})
    task_id = engine.submit("x", 1, idempotency_key="k")
    assert engine.submit("x", 2, idempotency_key="k") == task_id
    engine.advance(30)
    assert engine.submit("x", 2, idempotency_key="k") != task_id
    engine.advance(30)
    with pytest.raises(TaskNotFound):
        engine.get(task_id)


def test_tasks_are_found_by_what_they_are() -> None:
    engine = inline()
    ids = engine.submit_many({"task_type": "x", "payload": n, "queue": "ab"[n % 2], "tags": [str(n)]} for n in range(7))
    assert [task.id for task in engine.tasks()] == ids[::-1]
    assert [task.id for task in engine.tasks(queue="b", status="completed", limit=2)] == [ids[5], ids[3]]
    assert [task.id for task in engine.tasks(tag="4", type="x")] == [ids[4]]
    first, cursor = engine.page(limit=4)
    rest, end = engine.page(limit=4, cursor=cursor)
    assert [task.id for task in first + rest] == ids[::-1]
    assert end is None
    with pytest.raises(InvalidOption, match="status 'done' is not acceptable"):
        engine.tasks(status="done")
    with pytest.raises(InvalidOption, match="did you mean 'queue'"):
        engine.tasks(queu="b")  # type: ignore[call-arg]
    assert engine.delete(ids[:3]) == 3
    assert engine.counts()["COMPLETED"] == 4


def test_as_a_context_it_stands_in_for_the_default_client() -> None:
    with Inline() as engine:
        task_id = shortcut.submit(book="Emma", copies=2)
        assert engine.result(task_id) == "EmmaEmma"
        assert engine.result(shortcut.submit_with(Order(book="Persuasion"), priority="low")) == "Persuasion"


def test_an_interrupt_from_the_keyboard_passes_through() -> None:
    engine, flaky = failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        engine.submit("x")
    assert flaky.runs == 1
    assert engine.run() == 1


def test_the_clock_moves_forward_only() -> None:
    clock = FakeClock()
    before = clock.now_ms()
    clock.advance(1.5)
    assert clock.now_ms() == before + 1500
    with pytest.raises(ValueError, match="not by -1"):
        clock.advance(-1)
    assert Inline(clock=clock).clock is clock


def test_it_leaves_the_registry_alone() -> None:
    inline()
    assert "x" not in REGISTRY
