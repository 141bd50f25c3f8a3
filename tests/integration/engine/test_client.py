"""The client on a real Redis, without workers: what is written, what is read, and what each trouble is called."""

import copy
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine import Client, TaskPriority, TaskStatus
from engine.adapters.redis.wire.keys import Keys
from engine.client import default_client, set_default_client
from engine.errors import (
    BrokerDenied,
    BrokerFull,
    BrokerReadOnly,
    BrokerUnavailable,
    GangerError,
    InvalidInput,
    InvalidOption,
    InvalidSetting,
    ResultNotReady,
    TaskCancelled,
    TaskNotFound,
    UnknownHandler,
)
from engine.scheduler import Scheduler
from engine.tasks.import_guard import MainCollected, set_collecting
from engine.testing import Inline
from tests.redis_server import RedisServer, binaries, digest

NOWHERE = "0" * 19


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with Client(redis_url) as client:
        yield client


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that a test may maltreat, and that remembers across a restart."""
    server = RedisServer(binaries()[0], appendonly="yes", appendfsync="always")
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.stop()


# -- submitting and looking -------------------------------------------------------------------------------------------


def test_a_refusal_changes_nothing(client: Client, redis_server: RedisServer) -> None:
    client.submit("x")
    with redis_server.client() as redis:
        before = digest(redis)
        for bad in ({"payload": {1}}, {"payload": "x" * 2_000_000}, {"queue": "a b"}, {"delay": -1}, {"priority": 9}):
            with pytest.raises(InvalidInput):
                client.submit("x", **bad)  # type: ignore[arg-type]
            with pytest.raises(InvalidInput, match=r"tasks\[1\]"):
                client.submit_many([{"task_type": "x"}, {"task_type": "x", **bad}])
        assert digest(redis) == before


def test_an_unknown_handler_is_refused_once_pools_have_said_what_they_can(client: Client,
                                                                          redis_server: RedisServer) -> None:
    announcement = orjson.dumps({"name": "thumbnail", "queue": "images", "priority": "HIGH", "expires": 60})
    with redis_server.client() as redis:
        redis.hset(Keys().handlers, "thumbnail", announcement)
    task = client.get(client.submit("thumbnail"))
    assert (task.queue, task.priority, task.expires_at is not None) == ("images", TaskPriority.HIGH, True)
    with pytest.raises(UnknownHandler, match="did you mean 'thumbnail'"):
        client.submit("tumbnail")
    assert client.handlers()["thumbnail"]["queue"] == "images"


def submit_elsewhere(client: Client, payload: int) -> str:
    with client:
        return client.submit("x", payload)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_client_may_be_given_to_other_processes(client: Client, method: str) -> None:
    client.submit("x")  # its connections stay here
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        task_id = pool.submit(submit_elsewhere, client, 7).result(timeout=50)
    assert client.get(task_id).payload == 7
    assert copy.copy(client).settings == client.settings


def test_what_owns_an_engine_stays_where_it_is() -> None:
    for one, words in ((Scheduler(), "pass its `client`"), (Inline(), "part of this process")):
        with pytest.raises(TypeError, match=words):
            pickle.dumps(one)


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_a_result_that_is_not_there_yet(client: Client) -> None:
    task_id = client.submit("x")
    with pytest.raises(ResultNotReady, match="still QUEUED after 0 s"):
        client.result(task_id)
    began_s = time.monotonic()
    with pytest.raises(ResultNotReady, match=r"still QUEUED after 0\.2 s") as late:
        client.result(task_id, wait=0.2)
    assert 0.19 < time.monotonic() - began_s < 2
    assert isinstance(late.value, TimeoutError)
    with pytest.raises(InvalidOption):
        client.result(task_id, wait=-1)


def test_waiting_ends_with_the_task(client: Client) -> None:
    ids = client.submit_many({"task_type": "x"} for _ in range(3))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.wait, ids, 30)
        for task_id in ids:
            client.cancel(task_id)
        assert [task.status for task in waiting.result(timeout=30)] == [TaskStatus.CANCELLED] * 3


def test_waiting_survives_a_restart_of_redis(own_server: RedisServer) -> None:
    with Client(own_server.url, submit_timeout_s=0.5) as client, ThreadPoolExecutor() as pool:
        task_id = client.submit("x")
        waiting = pool.submit(client.result, task_id, 30)
        _until(lambda: own_server.client().hexists(Keys().waiters, task_id))
        own_server.kill()
        own_server.start()
        client.cancel(task_id)
        with pytest.raises(TaskCancelled):
            waiting.result(timeout=30)


def _own_user(server: RedisServer, *passwords: str) -> str:
    """A user with these passwords and no others; whoever was in as this user is out. Its URL has the first ever."""
    with server.client() as redis:
        redis.execute_command("ACL", "SETUSER", "one", "on", "~*", "&*", "+@all", "resetpass",
                              *(f">{password}" for password in passwords))
        redis.execute_command("CLIENT", "KILL", "USER", "one")
    return f"unix://one:first@{server.socket}"


@pytest.mark.parametrize("wait", [Client.result, lambda client, task_id, wait: client.wait([task_id], wait)[0].result])
def test_waiting_survives_a_password_that_is_wrong_for_a_while(own_server: RedisServer, wait: Any) -> None:
    url = _own_user(own_server, "first")
    with Client(url, submit_timeout_s=0.5) as client, ThreadPoolExecutor() as pool:
        task_id = client.submit("x")
        waiting = pool.submit(wait, client, task_id, 30)
        _until(lambda: own_server.client().hexists(Keys().waiters, task_id))
        _own_user(own_server, "other")
        _until(lambda: own_server.client().info("errorstats").get("errorstat_WRONGPASS", {}).get("count", 0) > 1)
        assert not waiting.done()
        _own_user(own_server, "first")
        client.cancel(task_id)
        error = waiting.exception(timeout=30)
        assert error is None or isinstance(error, TaskCancelled)


def test_waiting_for_a_redis_that_has_never_let_us_in_is_refused_at_once(own_server: RedisServer) -> None:
    url = _own_user(own_server, "other")
    with Client(url, submit_timeout_s=0.5) as client:
        for wait in (client.result, lambda task_id, wait: client.wait([task_id], wait)):
            began_s = time.monotonic()
            with pytest.raises(BrokerDenied):
                wait(NOWHERE, 30)
            assert time.monotonic() < began_s + 20, "it need not be waited for"


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_a_redis_that_is_down_is_named_in_time(own_server: RedisServer) -> None:
    with Client(own_server.url, submit_timeout_s=0.3) as client:
        client.submit("x")
        own_server.kill()
        with pytest.raises(BrokerUnavailable):
            client.submit("x")
        with pytest.raises(BrokerUnavailable):
            client.result(NOWHERE, wait=0.2)
        own_server.start()
        client.submit("x")
        assert client.counts()["QUEUED"] == 2


def test_a_redis_that_never_was(tmp_path: Path) -> None:
    with Client(f"unix://{tmp_path}/no.sock") as client, pytest.raises(BrokerUnavailable):
        client.submit("x")
    with Client("redis://localhost:1/0") as client, pytest.raises(BrokerUnavailable):
        client.submit("x")


@pytest.mark.parametrize("connected", [True, False])
def test_a_redis_that_does_not_answer_is_not_waited_for(own_server: RedisServer, connected: bool) -> None:
    with Client(own_server.url, submit_timeout_s=0.3) as client:
        if connected:
            client.submit("x")
        own_server.process.send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            client.submit("x")
        assert time.monotonic() - began_s < 2
        own_server.process.send_signal(signal.SIGCONT)
        client.submit("x")


def test_a_redis_that_refuses_says_why(own_server: RedisServer) -> None:
    with Client(own_server.url) as client, own_server.client() as redis:
        client.submit("x")
        redis.config_set("maxmemory", "1mb")
        with pytest.raises(BrokerFull):
            client.submit("x")
        redis.config_set("maxmemory", "0")
        redis.replicaof("localhost", "1")
        with pytest.raises(BrokerReadOnly):
            client.submit("x")
        redis.replicaof("NO", "ONE")
        redis.config_set("requirepass", "secret")
    with Client(own_server.url) as client, pytest.raises(BrokerDenied):
        client.submit("x")
    with Client(f"unix://:secret@{own_server.socket}") as client:
        client.submit("x")


def test_settings_are_checked_at_once(redis_url: str) -> None:
    with pytest.raises(InvalidSetting, match="redis_url"):
        Client("http://localhost")
    with pytest.raises(InvalidSetting, match="did you mean 'queue_prefix'"):
        Client(redis_url, queue_prefx="a")
    with pytest.raises(InvalidSetting, match="not both"), Client(redis_url) as client:
        Client(redis_url, settings=client.settings)


def test_tasks_are_dated_by_the_clock_of_redis(client: Client, redis_server: RedisServer) -> None:
    with redis_server.client() as redis:
        seconds, micros = redis.time()
    created_at = client.get(client.submit("x")).created_at
    assert abs(created_at.timestamp() - seconds - micros / 1e6) < 5


def test_prefixes_do_not_see_each_other(redis_url: str) -> None:
    with Client(redis_url, queue_prefix="one") as one, Client(redis_url, queue_prefix="other") as other:
        task_id = one.submit("x")
        with pytest.raises(TaskNotFound):
            other.get(task_id)


# -- processes and threads --------------------------------------------------------------------------------------------


def test_threads_share_a_client(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: client.submit("x", n), range(400)))
    assert len(set(ids)) == 400
    assert client.counts()["QUEUED"] == 400


def test_a_fork_has_connections_of_its_own(client: Client) -> None:
    """Parent and child submit at the same time; on one socket they would read each other's replies."""
    client.submit("x")
    with ThreadPoolExecutor(1) as pool:  # so that a thread of the parent may be in the middle of something
        parent = pool.submit(lambda: [client.submit("x", n) for n in range(200)])
        child = os.fork()
        if child == 0:
            status = 1
            try:
                ids = [client.submit("x", n) for n in range(200)]
                status = 0 if [client.get(task_id).payload for task_id in ids[:10]] == list(range(10)) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(set(parent.result())) == 200
    assert client.counts()["QUEUED"] == 401


def test_a_closed_client_says_so(redis_url: str) -> None:
    client = Client(redis_url)
    client.submit("x")
    client.close()
    client.close()
    with pytest.raises(GangerError, match="closed"):
        client.submit("x")


def test_a_script_that_is_executed_again_submits_nothing(redis_url: str) -> None:
    client = Client(redis_url)
    set_collecting(True)
    try:
        with pytest.raises(MainCollected):
            client.submit("x")
    finally:
        set_collecting(False)
    client.close()


# -- defaults ---------------------------------------------------------------------------------------------------------


def test_without_a_url_it_brings_its_own_redis(tmp_path: Path) -> None:
    with Client(data_dir=str(tmp_path / "data")) as client:
        task_id = client.submit("x", 1)
        with Client(data_dir=str(tmp_path / "data")) as other:
            assert other.get(task_id).payload == 1
    with Client(data_dir=str(tmp_path / "data")) as client:
        assert client.get(task_id).payload == 1


def test_the_default_client_is_made_from_the_settings(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANGER_REDIS_URL", redis_url)
    before = set_default_client(None)
    try:
        client = default_client()
        assert client.settings.redis_url == redis_url
        assert default_client() is client
        client.close()
    finally:
        set_default_client(before)


def _until(true: Any) -> None:
    """Ask until it is so; bounded by the test's own timeout."""
    pause = threading.Event()
    while not true():
        pause.wait(0.005)
