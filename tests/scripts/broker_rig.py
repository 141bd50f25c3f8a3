"""A Redis with tasks in every state, made the way the engine would have made them."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from engine.adapters.redis.keeper.keeper_broker import RedisKeeperBroker
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.adapters.redis.wire.layouts import LAYOUTS
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.record import Record
from engine.core.task.state import StoredState
from engine.core.task.task_id import task_ids
from engine.ports.client_broker import Submission
from tests.redis_server import RedisServer, digest, dump

PAYLOAD = b'{"n":1}'
HOUR_MS = 3_600_000
RESCUES_MAX = 5


class BrokerRig:
    """`broker` and `keeper` are what is tested; `client` looks on, and plays the supervisor that claims and settles."""

    def __init__(self, server: RedisServer) -> None:
        self.folder, self.socket = server.folder, server.socket
        self.client = server.client()
        self.client.flushall()
        self.broker = RedisClientBroker(server.url)
        self.broker.ping()
        self.keeper = RedisKeeperBroker(self.broker, RESCUES_MAX)
        self.keys = self.broker.keys
        self._ids: Iterator[str] = task_ids(self.now_ms, random.getrandbits(45))

    @property
    def now_ms(self) -> int:
        return self.broker.redis.now_ms()

    def close(self) -> None:
        self.broker.close()
        self.client.close()

    def dump(self) -> dict[str, Any]:
        return dump(self.client)

    def unchanged(self, call: Callable[[], Any]) -> Any:
        """Make the call and return its result; it must not have changed anything at all."""
        before, before_digest = self.dump(), digest(self.client)
        try:
            return call()
        finally:
            assert self.dump() == before
            assert digest(self.client) == before_digest

    def run(self, verb: str, keys: list[str], args: list[Any]) -> Any:
        return self.broker.redis.run(verb, keys, args)

    def call(self, verb: str, *rest: Any, supervisor: str = "", group_keys: Sequence[str] = (), **named: Any) -> Any:
        """Run a script as the engine does: single keys and arguments by name, then those of its groups.

        The keys are the rig's own where none is named.
        """
        layout = LAYOUTS[verb]
        key_names = {name: named.pop(name) for name in layout.key_names.single if name in named}
        defaults = {"base": self.keys.base, "now_ms": self.now_ms, "supervisor": supervisor}
        args = {name: named.get(name, defaults.get(name)) for name in layout.arg_names.single}
        assert not named.keys() - args.keys(), f"{verb} has no {named.keys() - args.keys()}"
        return self.run(verb, [*layout.keys(self.keys, supervisor, **key_names), *group_keys],
                        [*layout.args(**args), *rest])

    # -- tasks ----------------------------------------------------------------------------------------------------

    def new(self, queue: str = "q", priority: TaskPriority = TaskPriority.NORMAL, key: str | None = None, *,
            task_type: str = "t", **options: Any) -> Submission:
        return Submission(next(self._ids), Record(task_type, queue, priority, self.now_ms, PAYLOAD, options), key)

    def submit(self, *args: Any, **options: Any) -> str:
        return self.broker.submit([self.new(*args, **options)])[0]

    def state(self, task_id: str) -> StoredState:
        stored = self.broker.read([task_id])[0]
        assert stored is not None
        return stored.state

    def set_life(self, task_id: str, status: TaskStatus, owner: str = "-", **changes: int) -> None:
        old = self.state(task_id)
        fields = {"run": old.run, "attempts": old.attempts, "crashes": old.crashes, "priority": int(old.priority),
                  "rank": old.rank, "at_ms": self.now_ms, **changes}
        self.client.hset(self.keys.states, task_id, " ".join(map(str, [status, *fields.values(), owner])))

    def claimed(self, *args: Any, supervisor: str = "sup", lease_ms: int = HOUR_MS, **options: Any) -> str:
        """A task that runs under a supervisor."""
        task_id = self.submit(*args, **options)
        self.claim(task_id, supervisor, lease_ms)
        return task_id

    def claim(self, task_id: str, supervisor: str = "sup", lease_ms: int = HOUR_MS) -> None:
        stored = self.broker.read([task_id])[0]
        assert stored is not None
        line = self.keys.lane(stored.record.queue, stored.state.priority)
        rank = self.client.zscore(line, task_id)
        assert rank is not None
        self.client.zrem(line, task_id)
        self.client.zrem(self.keys.expiring, task_id)
        flows = self.keys.cursors(stored.record.queue, stored.state.priority)
        self.client.hset(flows, "v", max(int(self.client.hget(flows, "v") or 0), int(rank)))
        self.set_life(task_id, TaskStatus.RUNNING, supervisor, run=stored.state.run + 1, rank=int(rank))
        self.client.sadd(self.keys.running(supervisor), task_id)
        self.client.zadd(self.keys.supervisors, {supervisor: self.now_ms + lease_ms})

    def ended(self, status: TaskStatus = TaskStatus.FAILED, kept_ms: int = HOUR_MS, **options: Any) -> str:
        """A task that has run once and ended."""
        task_id = self.claimed(**options)
        self.settle(task_id, status, kept_ms)
        return task_id

    def settle(self, task_id: str, status: TaskStatus, at_ms: int = HOUR_MS) -> None:
        """End a run: `at_ms` from now the task is removed, or due again."""
        state = self.state(task_id)
        self.client.srem(self.keys.running(state.owner), task_id)
        self.set_life(task_id, status, attempts=state.attempts + (status != TaskStatus.COMPLETED))
        self.client.hset(self.keys.outcomes, f"{task_id}:{state.run}", b'{"run":%d,"cause":"raised"}' % state.run)
        zset = self.keys.due if status is TaskStatus.RETRYING else self.keys.ended(status)
        self.client.zadd(zset, {task_id: self.now_ms + at_ms})

    def retrying(self, due_ms: int = HOUR_MS, **options: Any) -> str:
        task_id = self.claimed(**options)
        self.settle(task_id, TaskStatus.RETRYING, due_ms)
        return task_id

    def pending(self, due_ms: int = HOUR_MS, **options: Any) -> str:
        return self.submit(due_ms=self.now_ms + due_ms, **options)

    def hearing(self, *channels: str) -> Any:
        """A subscription that stands when this returns."""
        heard = self.client.pubsub()
        heard.subscribe(*channels)
        for _ in channels:
            assert heard.get_message(timeout=5)["type"] == "subscribe"
        return heard


def messages(heard: Any, count: int) -> list[bytes]:
    """The next messages of a subscription; the server sends them before it answers the call that caused them."""
    found = []
    while len(found) < count:
        message = heard.get_message(timeout=5)
        assert message is not None, f"{count - len(found)} messages are missing after {found}"
        found.append(message["data"])
    return found
