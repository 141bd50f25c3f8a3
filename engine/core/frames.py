"""The words that a pool and its workers exchange, as bytes.

To the worker, one message a packet (packets keep their bounds, so that the pool
can take back what was not read yet); a long message is cut into numbered pieces:

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
from collections.abc import Iterable

PACKET_BYTES_MAX = 4096  # PIPE_BUF: what a pipe in packet mode keeps together
AHEAD_BYTES_MAX = 60_000  # longer messages are not worth sending ahead of time: a few fill any pipe
PIECE_BYTES_MAX = AHEAD_BYTES_MAX

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
_PIECE_HEAD = struct.Struct("<cH")  # kind, number
ORDER = struct.Struct("<Ic")  # token, reason: an interrupt
TOKEN_MAX = 0xFFFF_FFFF
WALL_US_MAX = 0xFFFF_FFFF
BYTES_MAX = 1 << 30  # of anything


_FRAME_HEAD_SIZE = FRAME_HEAD.size
_KINDS = frozenset((BOOTED, REPLIED, PROGRESS, LOG))


class ProtocolError(Exception):
    """Bytes that no worker or pool of this version writes."""


Frame = tuple[bytes, int, bytes, int, bytes]
"""kind, token, verdict, wall_us, body"""


def task(token: int, run: int, attempts: int, offset_ms: float, task_id: bytes, record: bytes) -> bytes:
    """A task to run. `offset_ms` makes Redis's time of a worker's: time.monotonic() * 1000 + offset_ms."""
    return TASK_HEAD.pack(TASK, token, run, attempts, offset_ms, task_id) + record


def token_of(message: bytes) -> int:
    """The token of a T message, such as one that was taken back."""
    return int.from_bytes(message[1:5], "little")


def pieces(message: bytes) -> list[bytes]:
    """Cut a message into packets; one that is short is a packet as it is."""
    if len(message) <= PACKET_BYTES_MAX:
        return [message]
    room = PACKET_BYTES_MAX - _PIECE_HEAD.size
    starts = range(0, len(message), room)
    kinds = [FIRST, *[FURTHER] * (len(starts) - 2), LAST]
    return [_PIECE_HEAD.pack(kind, number & 0xFFFF) + message[start : start + room]
            for number, (kind, start) in enumerate(zip(kinds, starts, strict=True))]


class Joiner:
    """Puts the pieces of one sender's messages together again."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, packet: bytes) -> bytes | None:
        """Return the message that `packet` is or completes.

        Pieces whose beginning was taken back are passed over. Raises `ProtocolError` for a message with a gap.
        """
        kind = packet[:1]
        if kind not in (FIRST, FURTHER, LAST):
            if self._pieces:
                raise ProtocolError(f"a {kind!r} packet amid the pieces of another message")
            return packet
        _, number = _PIECE_HEAD.unpack_from(packet)
        if not self._pieces and kind != FIRST:
            return None
        if number != len(self._pieces) & 0xFFFF or len(self._pieces) * PACKET_BYTES_MAX > BYTES_MAX:
            raise ProtocolError(f"piece {number} of a message after {len(self._pieces)} others")
        self._pieces.append(packet[_PIECE_HEAD.size :])
        if kind != LAST:
            return None
        whole = b"".join(self._pieces)
        self._pieces = []
        return whole


def sort_taken(packets: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Sort packets taken out of a pipe: messages, and the leading pieces of one that the reader has begun.

    The pieces must be given back to the reader. Should it have taken a piece at the same time, a message
    lacks its end; it is still to be told by its token.
    """
    messages: list[list[bytes]] = []
    begun: list[bytes] = []
    for packet in packets:
        kind = packet[:1]
        if kind == FIRST:
            messages.append([packet[_PIECE_HEAD.size :]])
        elif kind not in (FURTHER, LAST):
            messages.append([packet])
        elif messages:
            messages[-1].append(packet[_PIECE_HEAD.size :])
        else:
            begun.append(packet)
    return [b"".join(parts) for parts in messages], begun


def frame(kind: bytes, token: int, body: bytes, verdict: bytes = b"-", wall_us: int = 0) -> bytes:
    return FRAME_HEAD.pack(len(body), kind, token, verdict, min(wall_us, WALL_US_MAX)) + body


class FrameReader:
    """Cuts a worker's stream into frames; keeps what is not whole yet."""

    __slots__ = ("_rest", "_wanted")

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # the beginning of a frame, as it came
        self._wanted = 0  # bytes still missing until it makes sense to look again

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes; raises `ProtocolError` for a kind nobody writes."""
        found: list[Frame] = []
        if self._rest:
            self._rest.append(data)
            self._wanted -= len(data)
            if self._wanted > 0:
                return found
            data = b"".join(self._rest)
            self._rest = []
        unpack, start, end = FRAME_HEAD.unpack_from, 0, len(data)
        while end - start >= _FRAME_HEAD_SIZE:
            size, kind, token, verdict, wall_us = unpack(data, start)
            if kind not in _KINDS or size > BYTES_MAX:
                raise ProtocolError(f"a frame of kind {kind!r} and {size} bytes")
            body = start + _FRAME_HEAD_SIZE
            if body + size > end:
                self._keep(data[start:], body + size - end)
                return found
            start = body + size
            found.append((kind, token, verdict, wall_us, data[body:start]))
        if start < end:
            self._keep(data[start:], _FRAME_HEAD_SIZE - (end - start))
        return found

    def _keep(self, rest: bytes, wanted: int) -> None:
        self._rest.append(rest)
        self._wanted = wanted
