"""The order of waiting tasks: one lane for each queue and priority.

1. Priorities are strict: while a task waits that the supervisor can run, none of a lower priority starts. The one
   exception is ageing: a lane that nobody has served for that long is served once, out of turn.
2. Within a priority the lanes of the queues take turns. The lane that was served longest ago comes next.
3. Within a lane the lowest rank comes first; of two that are equal, the task that was submitted first. Ranks follow
   start-time fair queueing (Goyal 1996): each fair key counts on from its own last rank, or from the rank that was
   claimed last where that is higher. So a fair key with many tasks queues up behind itself, and one that was away
   starts level with the others.
4. A task keeps its rank over retries and releases. It gets a new one when it is requeued after its end, and when its
   priority changes. A task that leaves its lane without being claimed gives one rank back to its fair key.
5. A paused queue keeps its tasks, and no supervisor is given any of them. A lane that was passed over because of that
   counts as served at the moment when its queue is resumed.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from engine.core.task.priority import DESCENDING, TaskPriority


@dataclass(slots=True, eq=False)
class ModelLane:
    """The waiting tasks of one queue and priority."""

    queue: str
    priority: TaskPriority
    served_us: int = 0  # when it was served last, or got its first task; in microseconds, and so unique
    was_passed_over: bool = False  # since its queue was paused
    rank_claimed: int = 0  # the highest rank that was claimed
    ranks_given: dict[str, int] = field(default_factory=dict)  # fair key -> its last rank
    ranks: dict[str, tuple[int, int]] = field(default_factory=dict)  # task id -> rank, number by submission
    _order: list[tuple[int, int, str]] = field(default_factory=list)

    def give_rank(self, fair_key: str) -> int:
        """The next rank of a fair key; "" stands for tasks without one."""
        rank = max(self.rank_claimed, self.ranks_given.get(fair_key, 0)) + 1
        self.ranks_given[fair_key] = rank
        return rank

    def insert(self, task_id: str, rank: int, number: int, now_ms: int) -> None:
        if not self.ranks:
            self.served_us, self.was_passed_over = now_ms * 1000, False
        self.ranks[task_id] = rank, number
        insort(self._order, (rank, number, task_id))

    def claim(self, task_id: str) -> None:
        """A supervisor takes a task out of its lane."""
        self.rank_claimed = max(self.rank_claimed, self._remove(task_id))

    def leave(self, task_id: str, fair_key: str) -> None:
        """A task ends, or changes its priority, without having been claimed."""
        self._remove(task_id)
        if self.ranks_given.get(fair_key, 0) > 0:
            self.ranks_given[fair_key] -= 1

    def __iter__(self) -> Iterator[str]:
        """Its tasks, the lowest rank first. The lane must not change meanwhile."""
        return (task_id for _, _, task_id in self._order)

    def _remove(self, task_id: str) -> int:
        rank, number = self.ranks.pop(task_id)
        del self._order[bisect_left(self._order, (rank, number, task_id))]
        return rank


class ModelLanes:
    """All lanes that were ever used, and the queues that are paused."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, TaskPriority], ModelLane] = {}
        self.paused: set[str] = set()

    def lane(self, queue: str, priority: TaskPriority) -> ModelLane:
        key = queue, priority
        if key not in self._lanes:
            self._lanes[key] = ModelLane(queue, priority)
        return self._lanes[key]

    def of_queue(self, queue: str) -> list[ModelLane]:
        """The lanes of a queue that have tasks, the highest priority first."""
        return [lane for priority in DESCENDING if (lane := self._lanes.get((queue, priority))) and lane.ranks]

    def waiting(self) -> Iterator[ModelLane]:
        return (lane for lane in self._lanes.values() if lane.ranks)

    def resume(self, queue: str, now_ms: int) -> None:
        """Open a queue again."""
        self.paused.discard(queue)
        for lane in self.of_queue(queue):
            if lane.was_passed_over:
                lane.served_us, lane.was_passed_over = now_ms * 1000, False

    def choose(self, count: int, now_ms: int, can_run: Callable[[str], bool], *,
               queues: Collection[str] | None = None, ageing_ms: int = 0) -> list[str]:
        """Decide which waiting tasks a supervisor is given next, and count their lanes as served.

        Args:
            count: how many at most.
            can_run: whether the supervisor knows the type of the task with this id. Others are passed over.
            queues: those that it serves; None: all.
            ageing_ms: after so long a lane is served once whatever its priority; 0: never.

        Returns: their ids, in the order in which they are to start. They are in their lanes until they are claimed.
        """
        served = [lane for lane in self.waiting() if queues is None or lane.queue in queues]
        for lane in served:
            lane.was_passed_over = lane.was_passed_over or lane.queue in self.paused
        open_lanes = [lane for lane in served if lane.queue not in self.paused]
        tasks = {id(lane): filter(can_run, lane) for lane in open_lanes}
        latest_us = max((lane.served_us for lane in open_lanes), default=0)
        latest_us = max(latest_us, now_ms * 1000)
        chosen: list[str] = []

        def serve(lane: ModelLane) -> bool:
            nonlocal latest_us
            task_id = next(tasks[id(lane)], None)
            if task_id is None:
                return False
            latest_us += 1
            lane.served_us = latest_us
            chosen.append(task_id)
            return True

        oldest = min(open_lanes, key=lambda lane: (lane.served_us, -lane.priority), default=None)
        if count > 0 and ageing_ms and oldest and now_ms - oldest.served_us // 1000 >= ageing_ms:
            serve(oldest)
        for priority in DESCENDING:
            level = [lane for lane in open_lanes if lane.priority is priority]
            while len(chosen) < count and level:
                lane = min(level, key=_turn)
                if not serve(lane):
                    level.remove(lane)
        return chosen


def _turn(lane: ModelLane) -> int:
    return lane.served_us
