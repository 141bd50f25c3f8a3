"""What the keeper does for tasks that nobody holds, and for those whose supervisor fell silent.

1. promote: a task whose moment has come is QUEUED. One whose `expires` is over ends instead; that holds for retries
   too.
2. expire: a task that was not started before its `expires` is FAILED.
3. rescue: the runs of a supervisor whose lease is over go back to their lanes at their old ranks, and nothing is
   charged. A run fails instead if the task must not be started again, or has been rescued too often. It is cancelled
   if the supervisor had been told so. Then the supervisor is forgotten.
4. reapply: a task that was to be cancelled while it ran, and whose run ended otherwise, is cancelled where it is now.
5. remove: a task that has ended is forgotten once its time to be kept is over.
"""

from collections import Counter
from collections.abc import Mapping

from engine.core.task import stored_json
from engine.core.task.lifecycle import Move, TaskStatus
from engine.core.task.lost_run import RESCUES_MAX, of_lost_run
from engine.testing.model.client import ClientCalls
from engine.testing.model.store import ModelStore
from engine.testing.model.supervisor import expired_outcome


class KeeperCalls:
    def __init__(self, store: ModelStore, client: ClientCalls) -> None:
        self._store, self._client = store, client

    def next_ms(self) -> int | None:
        """The first moment at which `promote` or `expire` will have something to do; None if there is none."""
        moments = [min(moments.values()) for moments in (self._store.due, self._store.expiring) if moments]
        return min(moments, default=None)

    def lead(self, keeper: str, until_ms: int, now_ms: int) -> bool:
        """Ask to be the one keeper that acts until then; a moment that is over stands down. Return whether it is.

        A lock that ends later than any keeper asks for was dated by a clock that has been set back: it does not count.
        """
        leader = self._store.leader
        if leader and leader[0] != keeper and now_ms <= leader[1] <= 2 * until_ms - now_ms:
            return False
        if until_ms <= now_ms:
            if leader and leader[0] == keeper:
                self._store.leader = None
            return False
        self._store.leader = keeper, until_ms
        return True

    # -- moments --------------------------------------------------------------------------------------------------

    def promote(self, now_ms: int) -> int:
        """Return how many tasks were queued, or expired."""
        store, ids = self._store, _over(self._store.due, now_ms)
        for task_id in ids:
            task = store.tasks[task_id]
            if task.expires_ms is not None and task.expires_ms <= now_ms:
                store.end_waiting(task, Move.EXPIRE, expired_outcome(task, now_ms), now_ms, "expire")
                continue
            if task.expires_ms is not None and task.state.status is TaskStatus.RETRYING:
                store.expiring[task_id] = task.expires_ms
            store.move(task, Move.PROMOTE, now_ms)
            store.observer.moved(task_id, task.state.run, Move.PROMOTE, "nobody", "promote", b"")
            store.wake(task.record.queue)
        return len(ids)

    def expire(self, now_ms: int) -> int:
        """Return how many tasks ended."""
        ids = _over(self._store.expiring, now_ms)
        for task_id in ids:
            task = self._store.tasks[task_id]
            self._store.end_waiting(task, Move.EXPIRE, expired_outcome(task, now_ms), now_ms, "expire")
        return len(ids)

    def remove(self, now_ms: int) -> int:
        """Return how many tasks were forgotten."""
        ids = [task_id for ended in self._store.ended.values() for task_id in _over(ended, now_ms)]
        for task_id in ids:
            self._store.remove(task_id)
        return len(ids)

    def redate(self, now_ms: int, ahead_ms: int) -> int:
        """Begin the pauses of retries anew that were dated more than `ahead_ms` ahead, by a clock that was set back."""
        store = self._store
        ahead = [task for task_id in store.due if (task := store.tasks[task_id]).state.status is TaskStatus.RETRYING
                 and task.state.at_ms > now_ms + ahead_ms]
        for task in ahead:
            store.due[task.id] = now_ms + max(0, store.due[task.id] - task.state.at_ms)
            task.state = task.state._replace(at_ms=now_ms)
        return len(ahead)

    # -- lost runs ------------------------------------------------------------------------------------------------

    def expire_lease(self, supervisor: str, seen_ms: int | None = None) -> bool:
        """End the lease of a supervisor that is known to be gone.

        With `seen_ms`, only if that is its end still. Return whether it was ended.
        """
        known = self._store.supervisors.get(supervisor)
        if known is None or known.lease_end_ms is None or seen_ms not in (None, known.lease_end_ms):
            return False
        known.lease_end_ms = 0
        return True

    def rescue(self, supervisor: str, now_ms: int, rescues_max: int = RESCUES_MAX) -> Counter[Move]:
        """Take its runs away from a supervisor whose lease is over, and forget it. Return what became of them."""
        store, lost = self._store, self._store.supervisor(supervisor)
        moves = Counter[Move]()
        if (lost.lease_end_ms or 0) >= now_ms:
            return moves
        commands = [command for text in lost.commands if (command := stored_json.cancel_command(text)) is not None]
        reasons = {(command.task_id, command.run): command.reason for command in commands}
        for task_id in sorted(lost.running):
            moves[self._rescue_run(task_id, supervisor, reasons, now_ms, rescues_max)] += 1
        store.counters["rescued"] += moves.total()
        store.forget(supervisor)
        return moves

    def _rescue_run(self, task_id: str, supervisor: str, reasons: Mapping[tuple[str, int], str], now_ms: int,
                    rescues_max: int) -> Move:
        store, task = self._store, self._store.tasks[task_id]
        run = task.state.run
        fate = of_lost_run(run, supervisor, rescues=task.rescues, cancel_reason=reasons.get((task_id, run)),
                           max_deliveries=task.record.options.get("max_deliveries"), now_ms=now_ms,
                           rescues_max=rescues_max)
        outcome = fate.outcome.encode()
        status = store.move(task, fate.move, now_ms, moment_ms=now_ms + store.failed_ttl_ms)
        task.outcomes[run] = outcome
        task.rescues = task.rescues + 1 if fate.move is Move.RELEASE else 0
        if status.is_final:
            store.counters[status] += 1
        store.observer.moved(task_id, run, fate.move, "nobody", "rescue", outcome)
        if not status.is_final:
            store.wake(task.record.queue)
        return fate.move

    # -- cancel requests ------------------------------------------------------------------------------------------

    def reapply_cancel_requests(self, now_ms: int) -> int:
        """Return how many requests need nothing more."""
        store, before = self._store, len(self._store.cancel_requests)
        for task_id, (run, reason) in list(store.cancel_requests.items()):
            task = store.tasks.get(task_id)
            if task is not None and not task.state.status.is_final:
                is_under_way = task.state.status is TaskStatus.RUNNING and task.state.run == run
                if is_under_way or self._client.cancel(task_id, reason, now_ms) is TaskStatus.RUNNING:
                    continue
            del store.cancel_requests[task_id]
        return before - len(store.cancel_requests)


def _over(moments: Mapping[str, int], now_ms: int) -> list[str]:
    """The ids whose moment has come, the earliest first."""
    return [task_id for moment_ms, task_id in sorted((ms, one) for one, ms in moments.items() if ms <= now_ms)]
