"""Messages between the root and its children, where the kernel takes none for a moment. Real sockets."""

import errno
import logging
import socket
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from engine.adapters.poller import EpollPoller
from engine.services.tree.channel import PACKET_BYTES_MAX, UNSENT_MAX, ControlChannel


class Refusing(socket.socket):
    """Refuses its first message."""

    refuses_with = 0

    def send(self, data: Any, flags: int = 0) -> int:
        code, self.refuses_with = self.refuses_with, 0
        if code:
            raise OSError(code, "refused")
        return super().send(data, flags)


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM])
def test_a_message_that_the_kernel_has_no_room_for_goes_later_and_in_order(code: int) -> None:
    ours, theirs = ControlChannel.pair()
    poller, end = EpollPoller(), Refusing(fileno=ours.detach())
    end.refuses_with = code
    channel = ControlChannel(end, poller, lambda message: None)
    channel.send({"n": 1})
    channel.send({"n": 2})
    poller.wait(30)
    with theirs:
        assert [orjson.loads(theirs.recv(100)) for _ in range(2)] == [{"n": 1}, {"n": 2}]
        channel.close()
    poller.close()


# -- a peer that does not read ----------------------------------------------------------------------------------------


class Silent:
    """A channel to a peer that has not read yet, and what the peer reads in the end."""

    def __init__(self) -> None:
        self.ours, self.theirs = ControlChannel.pair()
        self.poller = EpollPoller()
        self.channel = ControlChannel(self.ours, self.poller, lambda message: None)
        self.theirs.setblocking(False)

    def fill(self, message: dict[str, Any]) -> None:
        """As many of it as the kernel takes, and as the channel keeps."""
        while not self.channel._wants_write:
            self.channel.send(message)
        for _ in range(UNSENT_MAX - len(self.channel._unsent)):
            self.channel.send(message)

    def read(self) -> list[dict[str, Any]]:
        messages = []
        while True:
            try:
                messages.append(orjson.loads(self.theirs.recv(PACKET_BYTES_MAX)))
            except BlockingIOError:
                if not self.channel._wants_write:
                    return messages
                self.poller.wait(30)

    def close(self) -> None:
        self.channel.close()
        self.theirs.close()
        self.poller.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    silent = Silent()
    yield silent
    silent.close()


LINE, STATE = {"do": "journal", "row": "x" * 2_000}, {"is": "well"}
DRAIN, SCALE = {"do": "drain"}, {"do": "scale", "workers": 3}


def test_a_peer_that_does_not_read_loses_lines_of_the_log_but_no_command(
        silent: Silent, caplog: pytest.LogCaptureFixture) -> None:
    silent.fill(LINE)
    silent.channel.send(DRAIN)
    silent.channel.send(SCALE)
    for _ in range(2 * UNSENT_MAX):
        silent.channel.send(LINE)
        silent.channel.send(STATE)
    assert [message for message in silent.read() if message not in (LINE, STATE)] == [DRAIN, SCALE]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_each_command_that_is_lost_is_in_the_log(silent: Silent, caplog: pytest.LogCaptureFixture) -> None:
    silent.fill({"do": "scale", "workers": "n" * 2_000})
    silent.channel.send(DRAIN)
    silent.channel.send(SCALE)
    assert silent.read()[-2:] == [DRAIN, SCALE]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert all(record.begins.startswith('{"do":"scale"') for record in caplog.records)  # type: ignore[attr-defined]
