"""A call that was heard and whose answer was lost is sent again: what its caller is told is what happened."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.adapters.clock import STALE_S
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.adapters.redis.wire import connection, scripts
from engine.adapters.redis.wire.connection import Connections
from engine.core.task.lifecycle import TaskStatus
from engine.errors import BrokerUnavailable, MoveRefused
from engine.services.tree import control
from tests.scripts.broker_rig import BrokerRig

Lose = Callable[[str], None]


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lose]:
    """`lose(verb)`: the answer to the next call of that script is lost, after Redis has carried it out."""
    real, lost = Connections._exchange, set[bytes]()

    def exchange(self: Connections, connection: Any, packed: bytes, *rest: Any) -> list[Any]:
        replies = real(self, connection, packed, *rest)
        if found := {sha for sha in lost if sha in packed}:
            lost.difference_update(found)
            raise RedisConnectionError("the answer was lost")
        return replies

    monkeypatch.setattr(Connections, "_exchange", exchange)
    yield lambda verb: lost.add(scripts.sha(verb).encode())
    assert not lost, "the call was not made"


@pytest.fixture
def warm(rig: BrokerRig) -> BrokerRig:
    """Every script is known, and a connection lies ready: only on such a one is a call sent again."""
    for verb in scripts.verbs():
        rig.client.script_load(scripts.source(verb))
    rig.broker.ping()
    return rig


def test_a_cancel_that_was_heard_is_not_said_to_be_refused(warm: BrokerRig, lose: Lose) -> None:
    task_id = warm.submit()
    lose("cancel_queued")
    assert warm.broker.cancel(task_id, "why") is TaskStatus.CANCELLED
    assert warm.state(task_id).status is TaskStatus.CANCELLED
    with pytest.raises(MoveRefused):
        warm.broker.cancel(task_id, "again")


def test_a_retry_that_was_heard_is_not_said_to_be_refused(warm: BrokerRig, lose: Lose) -> None:
    task_id = warm.ended()
    lose("requeue")
    warm.broker.requeue(task_id)
    assert warm.state(task_id).status is TaskStatus.QUEUED
    with pytest.raises(MoveRefused):
        warm.broker.requeue(task_id)


def test_a_cancel_of_a_run_is_told_to_its_supervisor(warm: BrokerRig, lose: Lose) -> None:
    task_id = warm.claimed()
    lose("send_command")
    assert warm.broker.cancel(task_id, "why") is TaskStatus.RUNNING


def test_many_are_counted_as_they_were_done(warm: BrokerRig, lose: Lose) -> None:
    ended = [warm.ended() for _ in range(3)]
    queued = [warm.submit() for _ in range(3)]
    lose("requeue")
    assert warm.broker.requeue_many([*ended, queued[0]]) == 3
    lose("cancel_queued")
    assert warm.broker.purge("q", 10) == 6
    lose("remove")
    assert warm.broker.delete([*ended, "0" * 19]) == 3


class Slow:
    """A Redis that is late with the time and never answers anything else."""

    def __init__(self, late_s: float) -> None:
        self.late_s = late_s
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.ends: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.listener.getsockname()[1]}"

    def close(self) -> None:
        for end in [self.listener, *self.ends]:
            end.close()

    def _serve(self) -> None:
        end, _ = self.listener.accept()
        self.ends.append(end)
        pause = threading.Event()
        while data := end.recv(4096):
            if b"INFO" in data:
                end.sendall(b"$19\r\nredis_version:7.0.0\r\n")
            elif b"TIME" in data:
                pause.wait(self.late_s)
                end.sendall(b"*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n")
            elif b"EVAL" not in data:
                end.sendall(b"+OK\r\n" * max(1, data.count(b"SETINFO")))


def test_the_time_for_a_submit_is_that_of_all_that_it_waits_for(
        rig: BrokerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, real = list[float](), connection._set_timeout
    monkeypatch.setattr(connection, "_set_timeout", lambda end, wait_s: (waits.append(wait_s), real(end, wait_s)))
    slow = Slow(0.4)
    broker = RedisClientBroker(slow.url, timeout_s=1.0)
    with pytest.raises(BrokerUnavailable):
        broker.submit([rig.new()])
    assert waits[-1] <= 0.6, "what the wait for the time has left, and not the whole once more"
    broker.close()
    slow.close()


def test_a_call_that_was_late_leaves_the_next_one_its_whole_time(rig: BrokerRig) -> None:
    rig.broker.redis.clock._calibrated_s = time.monotonic() - 2 * STALE_S
    rig.submit()
    (idle, _), *_ = rig.broker.redis._idle
    assert idle._sock.gettimeout() == rig.broker.redis.timeout_s


class Reloading:
    """As much of the pools of a tree as a command to restart needs."""

    def __init__(self) -> None:
        self.reloads = 0

    def reload_pools(self) -> None:
        self.reloads += 1


@pytest.mark.parametrize("first", ["one", "n" * (control.NAME_LENGTH_MAX + 1)])
def test_a_command_that_comes_twice_is_obeyed_once(first: str) -> None:
    pools = Reloading()
    root_control = control.Control(pools)  # type: ignore[arg-type]
    for name in (first, first, "two"):
        root_control.obey({"do": "restart", "order": name})
    assert pools.reloads == 2
    for _ in range(2):
        root_control.obey({"do": "restart"})
    assert pools.reloads == 4, "an earlier version gives its commands no name"
