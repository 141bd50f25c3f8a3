"""What can go wrong with Redis, and the error that each becomes, within the deadline, with nothing changed."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis, exceptions

from engine.adapters.redis.tasks.broker import RedisClientBroker, connect
from engine.adapters.redis.wire import connection
from engine.adapters.redis.wire.errors import from_redis
from engine.core.task.lifecycle import TaskStatus
from engine.errors import (
    BrokerDenied,
    BrokerError,
    BrokerFull,
    BrokerReadOnly,
    BrokerTooOld,
    BrokerUnavailable,
    InvalidSetting,
)
from engine.ports.client_broker import Submission
from tests.contract.test_waiting import until
from tests.redis_server import RedisServer, binaries
from tests.scripts.broker_rig import BrokerRig


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., RedisServer]]:
    """Servers of one's own, to be spoilt."""
    servers = []

    def start(**options: str) -> RedisServer:
        servers.append(RedisServer(binaries()[0], **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def timed(error: type[Exception], call: Callable[[], object]) -> float:
    """Seconds that the call took to raise."""
    began_s = time.monotonic()
    with pytest.raises(error):
        call()
    return time.monotonic() - began_s


def is_busy(client: Redis) -> bool:
    try:
        client.get("anything")
    except exceptions.ResponseError as error:
        return "BUSY" in str(error)
    return False


# -- refusals of Redis ----------------------------------------------------------------------------------------------


def test_full(rig: BrokerRig) -> None:
    waiting, running, lost, due = rig.submit(), rig.claimed(), rig.claimed(supervisor="lost"), rig.retrying(-1)
    rig.keeper.expire_lease("lost")
    rig.client.config_set("maxmemory", "1")
    try:
        for task in (rig.new(), rig.new(fair_key="a"), rig.new(due_ms=rig.now_ms + 1000), rig.new(key="k")):
            with pytest.raises(BrokerFull, match="maxmemory"):
                rig.unchanged(lambda task=task: rig.broker.submit([task]))
        assert rig.broker.cancel(waiting, "to make room") is TaskStatus.CANCELLED
        assert rig.broker.cancel(running, "to make room") is TaskStatus.RUNNING
        assert not list(rig.broker.ends([running], time.monotonic() + 0.01))
        assert rig.keeper.poll("keeper", rig.now_ms + 1000).leads
        assert rig.keeper.rescue("lost", 10).released == 1
        assert rig.keeper.promote(10)[0] == 1
        assert rig.broker.delete([waiting]) == 1
    finally:
        rig.client.config_set("maxmemory", "0")
    assert {rig.state(task_id).status for task_id in (lost, due)} == {TaskStatus.QUEUED}


def test_a_read_only_replica(rig: BrokerRig) -> None:
    task_id = rig.submit()
    rig.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(BrokerReadOnly):
            rig.broker.submit([rig.new()])
        with pytest.raises(BrokerReadOnly):
            rig.broker.cancel(task_id, "why")
        assert rig.broker.read([task_id])[0] is not None
    finally:
        rig.client.execute_command("REPLICAOF", "NO", "ONE")


def test_password_user_and_permission(own_server: Callable[..., RedisServer]) -> None:
    server = own_server()
    with server.client() as client:
        client.acl_setuser("ganger", enabled=True, passwords=["+p@ss/word"], keys=["*"], channels=["*"],
                           categories=["+@all", "-@dangerous"])
        client.acl_setuser("reader", enabled=True, passwords=["+r"], keys=["*"], categories=["+@read"])
        client.config_set("requirepass", "secret")
    path = server.socket

    for url in (f"unix://{path}", f"unix://:wrong@{path}", f"unix://nobody:secret@{path}"):
        with pytest.raises(BrokerDenied):
            RedisClientBroker(url).ping()
    RedisClientBroker(f"unix://:secret@{path}").ping()

    broker = RedisClientBroker(f"unix://ganger:p%40ss%2Fword@{path}")
    broker.ping()
    rig = BrokerRig.__new__(BrokerRig)
    rig.broker, rig._ids = broker, iter(["0" * 19])
    assert broker.submit([rig.new()]) == ["0" * 19]
    assert not list(broker.ends(["0" * 19], time.monotonic() + 0.01))
    assert broker.cancel("0" * 19, "why") is TaskStatus.CANCELLED

    with pytest.raises(BrokerDenied, match="password, the user or the command"):
        RedisClientBroker(f"unix://reader:r@{path}").ping()


def test_too_old(rig: BrokerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "VERSION_MIN", (99, 0))
    with pytest.raises(BrokerTooOld, match=r"Redis is \d+\.\d+.*, and must be"):
        RedisClientBroker(rig.broker.redis.url).ping()


@pytest.mark.parametrize("url", ["http://localhost", "", "redis://localhost?colour=red", "redis://localhost:port"])
def test_a_url_that_makes_no_sense(url: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        RedisClientBroker(url)
    assert caught.value.field == "redis_url"


# -- a Redis that is not there --------------------------------------------------------------------------------------


def test_nobody_listens(tmp_path: Path) -> None:
    assert timed(BrokerUnavailable, RedisClientBroker(f"unix://{tmp_path}/none.sock").ping) < 1
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert timed(BrokerUnavailable, RedisClientBroker(f"redis://127.0.0.1:{unused.getsockname()[1]}").ping) < 1


def test_somebody_listens_and_does_not_answer() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        broker = RedisClientBroker(f"redis://127.0.0.1:{deaf.getsockname()[1]}", timeout_s=0.2)
        assert 0.1 < timed(BrokerUnavailable, broker.ping) < 1


def test_a_redis_that_hangs(own_server: Callable[..., RedisServer]) -> None:
    server = own_server()
    rig = BrokerRig(server)
    rig.submit()
    broker = RedisClientBroker(server.url, timeout_s=0.2)
    broker.ping()
    task = rig.new()
    server.process.send_signal(signal.SIGSTOP)
    try:
        assert 0.1 < timed(BrokerUnavailable, lambda: broker.submit([task])) < 1
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert broker.submit([task]) == [task.id]
    assert rig.broker.counters()["submitted"] == 2


def test_a_redis_that_is_busy(own_server: Callable[..., RedisServer]) -> None:
    server = own_server(**{"lua-time-limit": "10"})
    broker = RedisClientBroker(server.url, timeout_s=5)
    broker.ping()
    with ThreadPoolExecutor(1) as thread, server.client() as client, server.client() as other:
        endless = thread.submit(client.eval, "while true do end", 0)
        until(lambda: is_busy(other))
        with pytest.raises(BrokerUnavailable, match="BUSY"):
            broker.counters()
        other.script_kill()
        with pytest.raises(exceptions.ResponseError):
            endless.result()
    assert broker.counters() == {}


def test_a_restart_between_two_calls_goes_unnoticed(own_server: Callable[..., RedisServer]) -> None:
    server = own_server(appendonly="yes", appendfsync="always")
    rig = BrokerRig(server)
    task_id = rig.submit()
    for _ in range(2):
        server.kill()
        server.start()
        assert rig.broker.read([task_id])[0] is not None
    server.kill()
    server.start()
    tasks = [rig.new() for _ in range(600)]
    assert rig.broker.submit(tasks) == [task.id for task in tasks]
    rig.close()


def test_it_comes_back_after_it_was_away(own_server: Callable[..., RedisServer]) -> None:
    server = own_server()
    rig = BrokerRig(server)
    server.kill()
    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            rig.broker.submit([rig.new()])
    server.start()
    assert rig.submit()
    rig.close()


def test_a_break_in_the_middle_of_many(own_server: Callable[..., RedisServer]) -> None:
    """Whatever was taken in before the break is not taken in twice when all is sent again."""
    server = own_server(appendonly="yes", appendfsync="always")
    rig = BrokerRig(server)
    rig.submit()
    tasks = [rig.new() for _ in range(1000)]

    class Breaking(list[Submission]):
        def __iter__(self) -> Iterator[Submission]:
            for n, task in enumerate(tasks):
                if n == 600 and self:
                    server.kill()
                yield task

    with pytest.raises(BrokerUnavailable):
        rig.broker.submit(Breaking(tasks))
    server.start()
    assert rig.broker.submit(tasks) == [task.id for task in tasks]
    assert rig.broker.counters()["submitted"] == 1001
    rig.close()


# -- scripts that the server forgot ---------------------------------------------------------------------------------


def test_a_server_that_forgot_the_scripts(rig: BrokerRig) -> None:
    for size in (1, 1, 1000):
        rig.client.script_flush()
        tasks = [rig.new() for _ in range(size)]
        assert rig.broker.submit(tasks) == [task.id for task in tasks]
        assert rig.broker.read([tasks[-1].id])[0] is not None


def test_a_server_that_forgets_them_in_the_middle(rig: BrokerRig) -> None:
    ids = [rig.submit()]
    names = (rig.keys.tasks, rig.keys.states, rig.keys.outcomes, rig.keys.progress)
    replies = rig.broker.redis.run_stream(("get_tasks", names, ["1", *ids]) for _ in flushing(rig))
    assert [reply[0] is not None for reply in replies] == [True] * 6


def flushing(rig: BrokerRig) -> Iterator[int]:
    for n in range(6):
        if n == 3:
            rig.client.script_flush()
        yield n


# -- threads and forks ----------------------------------------------------------------------------------------------


def test_threads_share_a_broker(rig: BrokerRig) -> None:
    tasks = [rig.new() for _ in range(400)]
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda task: rig.broker.submit([task])[0], tasks))
        assert ids == [task.id for task in tasks]
        assert all(threads.map(lambda task_id: rig.broker.read([task_id])[0], ids))
    assert len(rig.broker.redis._idle) <= connection.IDLE_MAX


def test_a_fork_does_not_share_sockets(rig: BrokerRig) -> None:
    mine, childs = rig.submit(), rig.new()
    child = os.fork()
    if child == 0:
        ok = rig.broker.submit([childs]) == [childs.id]
        os._exit(0 if ok else 1)
    for _ in range(100):
        assert rig.broker.read([mine])[0] is not None
    assert os.waitpid(child, 0)[1] == 0
    assert rig.broker.read([childs.id])[0] is not None


def test_a_closed_broker_refuses(rig: BrokerRig) -> None:
    broker = RedisClientBroker(rig.broker.redis.url)
    broker.ping()
    broker.close()
    with pytest.raises(BrokerError, match="closed"):
        broker.counters()


def test_connect_by_settings(redis_url: str) -> None:
    class Settings:
        queue_prefix, submit_timeout_s, failed_ttl_s, idempotency_ttl_s = "mine", 1.0, 60.0, 60.0
        redis_url: str | None = None

    settings = Settings()
    settings.redis_url = redis_url
    broker = connect(settings)
    assert broker.keys.tasks == "mine:{0}:tasks"
    broker.pause("q")
    assert broker.queue_stats()[0]["paused"]
    broker.close()


# -- TLS ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_tls(own_server: Callable[..., RedisServer], tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out",
                    str(certificate), "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        server = own_server(**{"tls-port": str(port), "tls-cert-file": str(certificate), "tls-key-file": str(key),
                               "tls-auth-clients": "no"})
    except exceptions.ConnectionError:
        pytest.skip("this redis-server has no TLS")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "ganger", "on", ">secret", "~*", "&*", "+@all")
    address = f"127.0.0.1:{port}?ssl_ca_certs={certificate}"
    with pytest.raises(BrokerDenied):
        RedisClientBroker(f"rediss://ganger:wrong@{address}").ping()
    broker = RedisClientBroker(f"rediss://ganger:secret@{address}")
    broker.ping()
    broker.pause("q")
    with pytest.raises(BrokerUnavailable):
        RedisClientBroker(f"rediss://ganger:secret@127.0.0.1:{port}").ping()  # signed by nobody it knows


# -- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "kind"), [
    (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), BrokerFull),
    (exceptions.ReadOnlyError("You can't write against a read only replica."), BrokerReadOnly),
    (exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots, but"), BrokerReadOnly),
    (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), BrokerReadOnly),
    (exceptions.AuthenticationError("invalid username-password pair"), BrokerDenied),
    (exceptions.NoPermissionError("this user has no permissions to run the 'evalsha' command"), BrokerDenied),
    (exceptions.ResponseError("NOAUTH Authentication required."), BrokerDenied),
    (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), BrokerUnavailable),
    (exceptions.ResponseError("BUSY Redis is busy running a script."), BrokerUnavailable),
    (exceptions.TimeoutError("Timeout reading from socket"), BrokerUnavailable),
    (exceptions.ConnectionError(), BrokerUnavailable),
    (OSError("No route to host"), BrokerUnavailable),
    (exceptions.ResponseError("ERR unknown command"), BrokerError),
])
def test_what_redis_says_becomes(error: Exception, kind: type[BrokerError]) -> None:
    assert type(from_redis(error)) is kind
    assert str(error) in str(from_redis(error))


@pytest.mark.parametrize("text", [
    "OOM command not allowed when used memory > 'maxmemory'. script: 1f, on @user_script:3.",
    "OOM command not allowed when used memory > 'maxmemory'. script: on @user_script:247.",
    "Error running script (call to f_1f): @user_script:12: @user_script: 12: -OOM command not allowed when used "
    "memory > 'maxmemory'.",
])
def test_where_in_a_script_redis_refused_is_not_told(text: str) -> None:
    error = from_redis(exceptions.ResponseError(text))
    assert type(error) is BrokerFull
    assert str(error).rstrip(".").endswith("writes: OOM command not allowed when used memory > 'maxmemory'")
