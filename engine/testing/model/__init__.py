"""The reference model: what Redis and its scripts do with tasks, in memory. Read it to learn the state machine.

The scripts in `adapters/redis/lua` do the same on Redis. A test (`tests/contract/test_broker_model.py`) makes random
calls to both and compares all that they keep. The inline engine of `engine.testing` and the simulated world of
`tests/world` run on this model, so a rule is written twice in all: once in Lua, and once here.

Which moves a task may make is decided by the table in `core/task/lifecycle.py`. A task is in one place at a time, and
its status names that place. The place says who makes the next move:

    status               place                        next move
    PENDING, RETRYING    `due`, by moment             the keeper promotes it
    QUEUED               a lane, by rank              a supervisor claims it
    RUNNING              `running` of a supervisor    the supervisor settles it; the keeper, once the lease is over
    COMPLETED, FAILED,   `ended`, by moment           a client requeues it (not COMPLETED); the keeper removes it
    CANCELLED, TIMEOUT

    file                holds
    lanes.py            the order of waiting tasks: priorities, turns of the queues, ranks, fair keys
    store.py            everything that is kept, and the one function that moves a task
    client.py           submit, idempotency keys, cancel, requeue, priorities, pause, purge, delete
    supervisor.py       one step of a supervisor: lease, settlements, claims, commands; its list of runs
    keeper.py           promote, expire, rescue, cancel requests, removal, the lock of the leader

Rules that hold in all of them:

1. Time is an argument, in ms of Redis's clock. Nothing here reads a clock, waits, or draws a random number.
2. A refused call changes nothing.
3. The run number of a task only grows. A settlement names the supervisor and the run; any other run refuses it.
4. A task has one outcome for each run. A task that ends while it waits has an outcome too: of the latest run, or of
   the next number if the latest run has its own.
5. The first decision wins: a run that was to be cancelled and ends otherwise keeps its own end.

The model leaves out what tests of the scripts cover one by one: records that cannot be read, repair, suspended runs,
the separate lanes for types that a supervisor does not know (such a task keeps its rank here, and is passed over),
and waiting clients.
"""

from engine.testing.model.client import ClientCalls
from engine.testing.model.keeper import KeeperCalls
from engine.testing.model.store import ModelStore, Observer
from engine.testing.model.supervisor import SupervisorCalls


class ReferenceModel:
    """One store, and what each kind of caller may do to it.

    Args:
        observer: is told of what happens.
        failed_ttl_ms: how long a task is kept that ended without a run, or whose supervisor was lost.
        idempotency_ttl_ms: how long an idempotency key stands for the task that it was first used for.
    """

    def __init__(self, observer: Observer | None = None, *, failed_ttl_ms: int = 604_800_000,
                 idempotency_ttl_ms: int = 86_400_000) -> None:
        self.store = ModelStore(observer or Observer(), failed_ttl_ms)
        self.client = ClientCalls(self.store, idempotency_ttl_ms)
        self.supervisor = SupervisorCalls(self.store)
        self.keeper = KeeperCalls(self.store, self.client)


__all__ = ["Observer", "ReferenceModel"]
