"""A Redis that cannot keep what it is told: one that deletes tasks, and one whose disk is full."""

import resource
from collections.abc import Callable, Iterator

import pytest

from engine import BrokerReadOnly, Client
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.cli.doctor.finding import State
from engine.cli.doctor.redis import eviction, persistence, version
from engine.core.store.storage import eviction_fault, writing_fault
from engine.services.keeper.duties.storage import StorageCheck
from tests.redis_server import RedisServer, binaries, identity
from tests.redis_server import version as version_of

FILE_BYTES = 60_000
Start = Callable[..., RedisServer]


@pytest.fixture(params=binaries(), ids=lambda binary: identity(binary).name)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    servers: list[RedisServer] = []

    def starts(**options: str) -> RedisServer:
        # A file that may not grow is to Redis what a full disk is, as long as the kernel's signal is ignored.
        servers.append(RedisServer(request.param, under=["env", "--ignore-signal=XFSZ"], **options))
        return servers[-1]

    yield starts
    for server in servers:
        server.stop()


def told(server: RedisServer) -> dict[str, object]:
    broker = RedisClientBroker(server.url)
    try:
        return broker.info()
    finally:
        broker.close()


def set_disk_bytes(server: RedisServer, most: int) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def submit_until_refused(client: Client) -> tuple[list[str], BrokerReadOnly]:
    """The tasks that Redis has taken, and its refusal."""
    ids: list[str] = []
    for _ in range(FILE_BYTES // 500):
        try:
            ids.append(client.submit("t", {"text": "x" * 1000}))
        except BrokerReadOnly as error:
            return ids, error
    raise AssertionError("Redis has taken everything")


# -- eviction ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_policy_that_deletes_tasks_is_a_fault_and_the_doctor_fails_it(start: Start, policy: str) -> None:
    info = told(start(maxmemory="100mb", **{"maxmemory-policy": policy}))
    assert f"maxmemory-policy is {policy}, and must be noeviction" in str(eviction_fault(info))
    assert eviction(info).state is State.FAIL


@pytest.mark.parametrize(("maxmemory", "policy"), [
    ("100mb", "noeviction"), ("100mb", "volatile-lru"), ("100mb", "volatile-ttl"), ("0", "allkeys-lru")])
def test_a_policy_that_deletes_no_tasks_is_none(start: Start, maxmemory: str, policy: str) -> None:
    assert eviction_fault(told(start(maxmemory=maxmemory, **{"maxmemory-policy": policy}))) is None


def test_a_user_who_may_not_ask_is_let_in() -> None:
    assert eviction_fault({"policy": None, "maxmemory_bytes": 0}) is None


class Watched:
    """A watch on a Redis that says what it is told to say, and what the watch has said."""

    def __init__(self, *, allow_eviction: bool = False) -> None:
        self.info = {"policy": "noeviction", "maxmemory_bytes": 100, "aof_enabled": True, "aof_ok": True}
        self.refused: list[str] = []
        self.now_s = 0.0
        self.watch = StorageCheck(lambda: self.info, self.refused.append, allow_eviction=allow_eviction,
                                  monotonic_s=lambda: self.now_s)

    def look(self, **changes: object) -> None:
        self.info.update(changes)
        self.now_s += StorageCheck.period_s
        assert self.watch.is_due()
        self.watch.run()
        assert not self.watch.is_due()


def test_the_start_is_refused_once_and_only_for_what_is_so_at_the_start() -> None:
    first, later = Watched(), Watched()
    first.look(policy="allkeys-lru")
    first.look()
    assert len(first.refused) == 1
    later.look()
    later.look(policy="allkeys-lru")
    assert later.refused == []


def test_an_engine_that_may_run_on_a_redis_that_deletes_does() -> None:
    watched = Watched(allow_eviction=True)
    watched.look(policy="allkeys-lru")
    assert watched.refused == []


def test_a_fault_is_logged_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    for changes in ({}, {"aof_ok": False}, {}, {"policy": "allkeys-lru"}, {"aof_ok": True, "policy": "noeviction"}, {}):
        watched.look(**changes)
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert levels == [("ERROR", "Redis may lose tasks")] * 2 + [("WARNING", "Redis is well again")] * 2


# -- a full disk -------------------------------------------------------------------------------------------------------


def test_a_full_disk_refuses_in_words_and_loses_nothing_that_was_answered(start: Start) -> None:
    server = start(appendonly="yes")
    set_disk_bytes(server, FILE_BYTES)
    with Client(server.url) as client:
        ids, refused = submit_until_refused(client)
        assert str(refused) == ("Redis refuses writes: MISCONF Errors writing to the AOF file: "
                                "No space left on device")
        info = told(server)
        assert "cannot write its append-only file" in str(writing_fault(info))
        assert persistence({**info, "appendfsync": "everysec"}).state is State.FAIL
        set_disk_bytes(server, resource.RLIM_INFINITY)
        with server.client() as redis:
            while told(server)["aof_ok"] is False:  # Redis tries again each second
                redis.xread({"no such stream": "$"}, block=100)
        ids.append(client.submit("t"))
        server.kill()
        server.start()
        assert {client.get(task_id).id for task_id in ids} == set(ids)


def test_a_kill_while_the_disk_is_full_loses_no_more_than_the_last_answer(start: Start) -> None:
    """What docs/reliability.md says of it: Redis has answered the submit at which it found the disk full."""
    server = start(appendonly="yes")
    set_disk_bytes(server, FILE_BYTES)
    with Client(server.url) as client:
        ids, _ = submit_until_refused(client)
        server.kill()
        server.start()
        kept = {task.id for task in client.tasks(limit=1000)}
        assert set(ids[:-1]) <= kept


# -- an old server -----------------------------------------------------------------------------------------------------


def test_the_doctor_says_what_an_old_server_lacks(start: Start) -> None:
    finding = version(told(start()))
    is_old = version_of(binaries()[0]) < (7, 2)
    assert finding.state is (State.WARN if is_old else State.OK)
    assert version({"server": "redis", "version": "6.2.14"}).state is State.WARN
    assert "no longer mend this line" in version({"server": "redis", "version": "7.0.15"}).detail
    assert version({"server": "redis", "version": "7.2.4"}).state is State.OK
    assert version({"server": "valkey", "version": "8.0.1"}).state is State.OK
    assert version({"server": "redis", "version": None}).state is State.OK
