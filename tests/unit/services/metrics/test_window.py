"""What the metrics of a window say of the tasks that ended in it."""

import statistics

import pytest

from engine.core.task.lifecycle import TaskStatus
from engine.services.metrics.window import GROUPS_MAX, End, Quantiles, percentiles, summarize, summarize_by


def end(status: TaskStatus = TaskStatus.COMPLETED, queue: str = "a", wait_s: float | None = 1.0) -> End:
    return End(0.0, queue, "t", status, "returned", wait_s, 2.0, 0.5, 1000)


def test_percentiles_of_a_hundred_and_one_values_are_those_values() -> None:
    assert percentiles([float(value) for value in range(100, -1, -1)]) == Quantiles(50.0, 90.0, 95.0, 99.0, 100.0)


@pytest.mark.parametrize(("values", "expected"), [
    ([], Quantiles()), ([3.0], Quantiles(3.0, 3.0, 3.0, 3.0, 3.0)),
    ([1.0, 2.0], Quantiles(1.5, 1.9, 1.95, 1.99, 2.0))])
def test_percentiles_of_few_values(values: list[float], expected: Quantiles) -> None:
    found = percentiles(values)
    assert [one is None for one in found] == [one is None for one in expected]
    assert [one for one in found if one is not None] == pytest.approx([one for one in expected if one is not None])


def test_half_of_the_values_are_below_the_median() -> None:
    values = [float(value * value % 97) for value in range(60)]
    assert percentiles(values).p50 == statistics.median(values)


def test_a_summary_leaves_cancelled_tasks_out_of_the_rate_of_success() -> None:
    ends = [end(), end(), end(TaskStatus.FAILED), end(TaskStatus.CANCELLED, wait_s=None)]
    found = summarize(ends, 2)
    assert (found.ended, found.per_s, found.success_rate) == (4, 2.0, 0.666667)
    assert found.by_status == {"COMPLETED": 2, "FAILED": 1, "CANCELLED": 1}
    assert (found.cpu_s, found.peak_rss_bytes, found.wait_s.max) == (2.0, 1000, 1.0)
    assert summarize([], 2).success_rate is None


def test_the_largest_groups_are_told_apart() -> None:
    ends = [end(queue=f"q{number}") for number in range(GROUPS_MAX + 5)] + [end(queue="large")] * 3
    found = summarize_by(ends, lambda one: one.queue, 1)
    assert len(found) == GROUPS_MAX
    assert next(iter(found)) == "large"
    assert found["large"].ended == 3
