"""The words that a pool and its workers exchange, as bytes.

To the worker, one message a packet (packets keep their bounds, so that the pool
can take back what was not read yet); a long message is cut into pieces:

    T  token, run, attempts, clock offset, id; then the task's record as it is stored
    Q  quit when everything before is done
    <  first piece · +  further piece · .  last piece of a long message

To the pool, a stream of frames, so that one read brings many:

    length, kind, token, verdict, wall_us; then a body
    B booted · R replied (body: outcome) · P progress (body: JSON) · L log (body: JSON row)

Tokens count up per pool and name a run inside it; replies come in the order
in which the tasks were sent. Nothing here knows pipes, processes or clocks.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PIECE_BYTES_MAX = 60_000  # a packet must fit in a socket buffer of the usual 208 KiB several times

TASK, QUIT = b"T", b"Q"
FIRST, FURTHER, LAST = b"<", b"+", b"."
BOOTED, REPLIED, PROGRESS, LOG = b"B", b"R", b"P", b"L"

COMPLETED, RAISED, FAILED, RETRY, CANCEL, SOFT_TIMEOUT, INTERRUPTED = b"C", b"E", b"F", b"A", b"X", b"S", b"I"
VERDICTS = {
    COMPLETED: "the handler returned",
    RAISED: "it raised; may be run again",
    FAILED: "must not be run again: bad payload, bad result, no_retry_on, unknown handler",
    RETRY: "it raised Retry; the outcome has `retry_after`, seconds or null",
    CANCEL: "it raised Cancel",
    SOFT_TIMEOUT: "SoftTimeout left it",
    INTERRUPTED: "TaskInterrupted left it",
}

TASK_HEAD = struct.Struct("<cIIId19s")  # kind, token, run, attempts, clock offset in ms, id
FRAME_HEAD = struct.Struct("<IcIcI")  # bytes of the body, kind, token, verdict, wall_us
ORDER = struct.Struct("<Ic")  # token, reason: an interrupt
TOKEN_MAX = 0xFFFF_FFFF
WALL_US_MAX = 0xFFFF_FFFF
PROTOCOL_BYTES_MAX = 1 << 30


class ProtocolError(Exception):
    """Bytes that no worker or pool of this version writes."""


class Frame(NamedTuple):
    kind: bytes
    token: int
    verdict: bytes
    wall_us: int
    body: bytes


def task(token: int, run: int, attempts: int, offset_ms: float, task_id: bytes, record: bytes) -> bytes:
    """A task to run. `offset_ms` makes Redis's time of a worker's: time.monotonic() * 1000 + offset_ms."""
    return TASK_HEAD.pack(TASK, token, run, attempts, offset_ms, task_id) + record


def token_of(message: bytes) -> int:
    """The token of a T message, such as one that was taken back."""
    return int.from_bytes(message[1:5], "little")


def pieces(message: bytes) -> Iterator[bytes]:
    """Cut a message into packets; one that is short is a packet as it is."""
    if len(message) <= PIECE_BYTES_MAX:
        yield message
        return
    room = PIECE_BYTES_MAX - 1
    last = (len(message) - 1) // room * room
    yield FIRST + message[:room]
    for start in range(room, last, room):
        yield FURTHER + message[start : start + room]
    yield LAST + message[last:]


class Joiner:
    """Puts the pieces of one sender's messages together again."""

    __slots__ = ("_bytes", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._bytes = 0

    @property
    def is_between(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._pieces)

    def feed(self, packet: bytes) -> bytes | None:
        """Return the message that `packet` is or completes; raises `ProtocolError` for a piece out of order."""
        kind = packet[:1]
        if kind not in (FIRST, FURTHER, LAST):
            if self._pieces:
                raise ProtocolError(f"a {kind!r} packet amid the pieces of another message")
            return packet
        if (kind == FIRST) is bool(self._pieces):
            raise ProtocolError(f"a {kind!r} piece out of order")
        self._pieces.append(packet[1:])
        self._bytes += len(packet)
        if self._bytes > PROTOCOL_BYTES_MAX:
            raise ProtocolError("a message without an end")
        if kind != LAST:
            return None
        whole = b"".join(self._pieces)
        self._pieces, self._bytes = [], 0
        return whole


def whole_messages(packets: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Sort packets taken out of a socket: whole messages, and pieces whose beginning somebody else has read.

    Only the oldest message can lack its beginning: its pieces must be given back to that reader.
    """
    joiner, messages, headless = Joiner(), [], list[bytes]()
    for packet in packets:
        if packet[:1] in (FURTHER, LAST) and not joiner.is_between:
            headless.append(packet)
        elif (message := joiner.feed(packet)) is not None:
            messages.append(message)
    if joiner.is_between:
        raise ProtocolError("a message without an end")
    return messages, headless


def frame(kind: bytes, token: int, body: bytes, verdict: bytes = b"-", wall_us: int = 0) -> bytes:
    return FRAME_HEAD.pack(len(body), kind, token, verdict, min(wall_us, WALL_US_MAX)) + body


class FrameReader:
    """Cuts a worker's stream into frames; keeps what is not whole yet."""

    __slots__ = ("_rest", "_wanted")

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # the beginning of a frame, as it came
        self._wanted = 0  # bytes still missing until it makes sense to look again

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes; raises `ProtocolError` for a kind nobody writes."""
        if self._rest:
            self._rest.append(data)
            self._wanted -= len(data)
            if self._wanted > 0:
                return
            data = b"".join(self._rest)
            self._rest = []
        unpack, head, start, end = FRAME_HEAD.unpack_from, FRAME_HEAD.size, 0, len(data)
        while end - start >= head:
            size, kind, token, verdict, wall_us = unpack(data, start)
            if kind not in (REPLIED, BOOTED, PROGRESS, LOG) or size > PROTOCOL_BYTES_MAX:
                raise ProtocolError(f"a frame of kind {kind!r} and {size} bytes")
            body = start + head
            if body + size > end:
                self._keep(data[start:], body + size - end)
                return
            start = body + size
            yield Frame(kind, token, verdict, wall_us, data[body:start])
        if start < end:
            self._keep(data[start:], head - (end - start))

    def _keep(self, rest: bytes, wanted: int) -> None:
        self._rest.append(rest)
        self._wanted = wanted
