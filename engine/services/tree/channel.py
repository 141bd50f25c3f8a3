"""How the root and its children speak: JSON messages, one a packet, on a socket pair that each child inherits.

A message {"do": …} is a command, {"do": "journal", …} a line of the log, and {"is": …} says how the sender is. A peer
that does not read for a while loses the oldest lines and states. Commands are kept; the log names each that is lost.

The same channel is the child's lifeline: when its other end is gone, so is the root.
"""

import errno
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from engine.ports.poller import NOT_NOW, READ, WRITE, Poller

_READ_BYTES = 1 << 18
PACKET_BYTES_MAX = 180_000  # what the kernel takes as one packet with the usual size of its buffers
UNSENT_MAX = 1_000  # messages
SHOWN_BYTES = 100  # of a message that is lost, in the log

_COMMAND, _LOG_LINE = b'{"do":', b'{"do":"journal"'

_errors = logging.getLogger("ganger.errors")


class ControlChannel:
    """One end, on the socket `end`. `receive` is called from the poller with each message, and with None at the end."""

    def __init__(self, end: socket.socket, poller: Poller, receive: Callable[[dict[str, Any] | None], None]) -> None:
        self._end, self._poller, self._receive = end, poller, receive
        self._open = True
        self._unsent: deque[bytes] = deque()
        self._wants_write = self._has_dropped = False
        end.setblocking(False)
        poller.register(end.fileno(), self._ready)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """The sockets for the two ends."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, without waiting. What the peer cannot take yet goes later; UNSENT_MAX messages are kept.

        A message that is too long for one packet is not sent, which the log says.
        """
        if not self._open:
            return
        packet = orjson.dumps(message)
        if len(packet) > PACKET_BYTES_MAX:
            _log_too_long(packet)
            return
        if len(self._unsent) >= UNSENT_MAX:
            self._drop()
        self._unsent.append(packet)
        if len(self._unsent) == 1:
            self._flush()

    def _drop(self) -> None:
        """Drop the oldest message that is no command, else the oldest command."""
        dropped = next((packet for packet in self._unsent if not _is_command(packet)), None)
        if dropped is None:
            dropped = self._unsent[0]
            _errors.error("a process of ours does not read; a command to it is lost", extra={
                "begins": dropped[:SHOWN_BYTES].decode(errors="replace")})
        elif not self._has_dropped:
            self._has_dropped = True
            _errors.warning("a process of ours does not read; the oldest messages to it are dropped, but no commands")
        self._unsent.remove(dropped)

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._end.send(self._unsent[0])
                self._unsent.popleft()
            self._has_dropped = False
        except ConnectionError:  # the peer is gone, which reading shows
            self._unsent.clear()
        except OSError as error:
            if error.errno == errno.EMSGSIZE:  # a host with smaller buffers
                _log_too_long(self._unsent.popleft())
            elif error.errno not in NOT_NOW:
                raise
        if bool(self._unsent) is not self._wants_write:
            self._wants_write = bool(self._unsent)
            self._poller.modify(self._end.fileno(), READ | WRITE if self._wants_write else READ)

    def close(self) -> None:
        """Close this end. A second call does nothing."""
        if self._open:
            self._open = False
            self._poller.unregister(self._end.fileno())
            self._end.close()

    def _ready(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
        while self._open and mask & ~WRITE:
            try:
                packet = self._end.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                packet = b""
            if not packet:
                self.close()
                self._receive(None)
                return
            self._receive(orjson.loads(packet))


def _is_command(packet: bytes) -> bool:
    return packet.startswith(_COMMAND) and not packet.startswith(_LOG_LINE)


def _log_too_long(packet: bytes) -> None:
    _errors.error("a message between our processes is too long and was not sent", extra={
        "bytes": len(packet), "bytes_max": PACKET_BYTES_MAX, "begins": packet[:SHOWN_BYTES].decode(errors="replace")})
