"""Messages between the root and its children, where the kernel takes none for a moment. Real sockets."""

import errno
import socket
from typing import Any

import orjson
import pytest

from engine.adapters.poller import EpollPoller
from engine.services.tree.channel import ControlChannel


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
