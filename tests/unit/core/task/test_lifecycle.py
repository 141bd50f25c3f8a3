from itertools import product

import pytest

from engine.core.task.lifecycle import FINAL, MOVES, IllegalMove, Move, TaskStatus, step


@pytest.mark.parametrize(("status", "move"), list(product(TaskStatus, Move)))
def test_a_pair_is_in_the_table_or_refused(status: TaskStatus, move: Move) -> None:
    if move in MOVES[status]:
        assert step(status, move) is MOVES[status][move]
    else:
        with pytest.raises(IllegalMove, match=f"cannot {move} a task that is {status}"):
            step(status, move)


def test_every_status_can_be_reached_and_every_task_can_end() -> None:
    reached, ending = {TaskStatus.PENDING, TaskStatus.QUEUED}, set(FINAL)
    for _ in TaskStatus:
        reached |= {to for status in reached for to in MOVES[status].values()}
        ending |= {status for status in TaskStatus if ending & set(MOVES[status].values())}
    assert reached == ending == set(TaskStatus)


def test_only_final_statuses_can_be_requeued_and_nothing_else_leaves_them() -> None:
    for status in TaskStatus:
        assert status.is_final == (status in FINAL)
        assert (set(MOVES[status]) <= {Move.REQUEUE}) == status.is_final


def test_a_completed_task_stays_completed() -> None:
    assert MOVES[TaskStatus.COMPLETED] == {}
