"""What the link to Redis does with answers that no Redis in order gives, and where the kernel has nothing to give."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from engine.adapters.clock import STALE_S, RedisClock
from engine.adapters.poller import EpollPoller
from engine.adapters.redis.pool.supervisor_broker import RedisSupervisorBroker, Terms
from engine.adapters.redis.wire.handshake import new_reader
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.supervisor_link import Answered, Lost, SupervisorLink
from engine.ports.supervisor_broker import Parted, Settlement

WAIT_S = 30.0
PLAIN_ERROR = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"


class Talk:
    """A link that is up, and the other end of its socket."""

    def __init__(self, link: SupervisorLink) -> None:
        self.link = link
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        link._socket, link._reader, link.up, link._retry_s = ours, new_reader(), True, None
        link.poller.register(ours.fileno(), link._ready)
        self.ours = ours

    def answer(self, data: bytes, *, hang_up: bool = False) -> None:
        self.theirs.sendall(data)
        if hang_up:
            self.theirs.close()
        self.link.poller.wait(WAIT_S)

    def close(self) -> None:
        self.link.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def talk() -> Iterator[Talk]:
    talk = Talk(SupervisorLink("redis://nobody", "wakeup", RedisClock(), EpollPoller()))
    yield talk
    talk.close()


def test_a_connection_that_breaks_while_a_script_is_sent_whole_is_lost_and_the_loop_goes_on(talk: Talk) -> None:
    talk.link.run("step", "step", ["k"], [1])
    talk.link.send("row", "RPUSH", "log", "row")
    talk.theirs.recv(1 << 20)
    talk.answer(PLAIN_ERROR + b":1\r\n", hang_up=True)
    (lost,) = talk.link.events()
    assert isinstance(lost, Lost)
    assert sorted(map(str, lost.unanswered)) == ["row", "step"]
    assert talk.link.next_deadline_s() < time.monotonic() + 1, "it connects again"


def test_an_answer_that_nobody_asked_for_ends_the_connection_with_a_reason(talk: Talk) -> None:
    talk.link.send("one", "PING")
    talk.answer(b"+PONG\r\n+PONG\r\n+PONG\r\n")
    answered, lost = talk.link.events()
    assert isinstance(answered, Answered)
    assert isinstance(lost, Lost)
    assert "nobody asked for" in lost.reason
    assert not talk.link.up


@pytest.mark.parametrize("told", [b"-NOPERM this user has no permissions\r\n", b"*1\r\n:5\r\n", b"$3\r\nnow\r\n"])
def test_a_redis_that_does_not_tell_the_time_is_left(talk: Talk, told: bytes) -> None:
    talk.link.clock._calibrated_s = time.monotonic() - 2 * STALE_S
    talk.link.tick(time.monotonic())
    talk.answer(told)
    (lost,) = talk.link.events()
    assert isinstance(lost, Lost)
    assert "time" in lost.reason


@pytest.mark.parametrize("reply", [
    b":7\r\n", b"*1\r\n:5\r\n", b"*5\r\n*2\r\n:9\r\n$1\r\na\r\n*0\r\n*0\r\n:0\r\n:0\r\n"])
def test_the_answer_to_a_step_that_makes_no_sense_ends_the_connection_and_keeps_the_ends(reply: bytes) -> None:
    broker = RedisSupervisorBroker("redis://nobody", Keys(), Terms("s", ("q",), 15.0, 30.0, 60.0, 60.0), RedisClock(),
                                   EpollPoller())
    talk = Talk(broker._link)
    settlement = Settlement(b"task", 1, "complete nobody", 1, b"{}")
    broker.step([settlement], 1, 0, 1, b"")
    talk.answer(reply)
    heard = [*broker.events(), *broker.events()]
    (parted,) = heard
    assert isinstance(parted, Parted)
    assert parted.unsettled == [settlement]
    talk.close()


def test_where_the_kernel_has_no_thread_to_give_the_link_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    link = SupervisorLink("redis://nobody", "wakeup", RedisClock(), EpollPoller())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    link.tick(time.monotonic())
    (lost,) = link.events()
    assert isinstance(lost, Lost)
    assert link.next_deadline_s() < time.monotonic() + 1
    link.close()
