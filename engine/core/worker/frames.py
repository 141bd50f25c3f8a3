"""What a pool and its workers send each other, as bytes. Every code on the wire has its name here, once.

To the worker, one message a packet (packets keep their bounds, so that the pool
can take back what was not read yet); a long message is cut into numbered pieces:

    T  token, run, attempts, clock offset, id; then the task's record as it is stored
    Q  quit when everything before is done
    <  first piece · +  further piece · .  last piece of a long message

To the worker too, on its control pipe: what concerns the run that it executes.

    token, code, seconds

To the pool, a stream of frames, so that one read brings many:

    length, kind, token, verdict, wall_us; then a body
    B booted · R replied (body: outcome) · P progress (body: JSON) · L log (body: JSON row) · G grown (body: JSON)
    H a hook failed (body: JSON) · W the run waits for other tasks (body: 1), or does so no more (0)

Messages, control codes, kinds of frames and verdicts are four sets. The same
byte may be in several of them, and means something else in each.

Tokens count up per pool and name a run inside it; replies come in the order
in which the tasks were sent. Nothing here knows pipes, processes or clocks.
"""

import struct
from collections.abc import Iterable
from typing import Final, Literal

PACKET_BYTES_MAX = 4096  # PIPE_BUF: what a pipe in packet mode keeps together
AHEAD_BYTES_MAX = 60_000  # longer messages are not worth sending ahead of time: a few fill any pipe
PIECE_BYTES_MAX = AHEAD_BYTES_MAX

TASK, QUIT = b"T", b"Q"
FIRST, FURTHER, LAST = b"<", b"+", b"."
BOOTED, REPLIED, PROGRESS, LOG, GROWN, HOOK_FAILED, WAITING = b"B", b"R", b"P", b"L", b"G", b"H", b"W"
NO_RUN = 0  # the token of a frame that belongs to no run

COMPLETED, RAISED, FAILED, RETRY, CANCEL, SOFT_TIMEOUT, INTERRUPTED = b"C", b"E", b"F", b"A", b"X", b"S", b"I"
UNKNOWN = b"U"
NO_VERDICT = b"-"  # in frames that end no run
VERDICTS = {
    COMPLETED: "the handler returned",
    RAISED: "it raised; may be run again",
    FAILED: "must not be run again: bad payload, bad result, no_retry_on",
    RETRY: "it raised Retry; the outcome has `retry_after`, seconds or null",
    CANCEL: "it raised Cancel",
    SOFT_TIMEOUT: "SoftTimeout left it",
    INTERRUPTED: "TaskInterrupted left it",
    UNKNOWN: "this worker has no handler of that name; nothing has been run",
}

TASK_HEAD = struct.Struct("<cIIId19s")  # kind, token, run, attempts, clock offset in ms, id
FRAME_HEAD = struct.Struct("<IcIcI")  # bytes of the body, kind, token, verdict, wall_us
_PIECE_HEAD = struct.Struct("<cI")  # kind, number
CONTROL = struct.Struct("<Icd")  # token, one of the codes below, seconds
INTERRUPT_SOFT_TIMEOUT: Final = b"S"  # raise SoftTimeout in the run
INTERRUPT_CANCEL: Final = b"C"  # raise TaskInterrupted in the run
WAS_SUSPENDED: Final = b"P"  # the run was suspended for so many seconds, which do not count
InterruptReason = Literal[b"S", b"C"]
TOKEN_MAX = 0xFFFF_FFFF
WALL_US_MAX = 0xFFFF_FFFF
BYTES_MAX = 1 << 30  # of anything


class ProtocolError(Exception):
    """Bytes that no worker or pool of this version writes."""


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
    return [_PIECE_HEAD.pack(kind, number) + message[start : start + room]
            for number, (kind, start) in enumerate(zip(kinds, starts, strict=True))]


class Joiner:
    """Puts the pieces of one sender's messages together again.

    The reader that has the first piece has the message. Further pieces may come in any order, since the pool may have
    taken some out and given them back. Pieces without a first one belong to a message that was taken back: ignored.
    """

    __slots__ = ("_count", "_pieces")

    def __init__(self) -> None:
        self._pieces: dict[int, bytes] = {}
        self._count = 0  # of the pieces of this message, once the last is known

    def feed(self, packet: bytes) -> bytes | None:
        """Return the message that `packet` is or completes, None as long as pieces are missing.

        Raises `ProtocolError` for bytes that no pool sends.
        """
        kind, pieces = packet[:1], self._pieces
        if kind not in (FIRST, FURTHER, LAST):
            if pieces:
                raise ProtocolError(f"a {kind!r} packet amid the pieces of another message")
            return packet
        if len(packet) < _PIECE_HEAD.size:
            raise ProtocolError(f"a piece of {len(packet)} bytes")
        _, number = _PIECE_HEAD.unpack_from(packet)
        if kind != FIRST and not pieces:
            return None
        if (kind == FIRST and pieces) or number in pieces or number * PACKET_BYTES_MAX > BYTES_MAX:
            raise ProtocolError(f"piece {number} of a message that has {len(pieces)}")
        pieces[number] = packet[_PIECE_HEAD.size :]
        if kind == LAST:
            self._count = number + 1
        if len(pieces) != self._count:
            return None
        if max(pieces) >= self._count:
            raise ProtocolError(f"piece {max(pieces)} of a message of {self._count}")
        self._pieces, self._count = {}, 0
        return b"".join(pieces[number] for number in range(len(pieces)))


def sort_taken(packets: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Sort packets that were taken out of a pipe.

    Returns the messages, and the first pieces of a message that the reader has begun: they must be given back to it.
    If the reader has taken pieces at the same time, a message here is not whole, but its first piece with the token is.
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


def frame(kind: bytes, token: int, body: bytes, verdict: bytes = NO_VERDICT, wall_us: int = 0) -> bytes:
    """Return a frame for the pool. `wall_us`: how long the run took, in microseconds."""
    return FRAME_HEAD.pack(len(body), kind, token, verdict, min(wall_us, WALL_US_MAX)) + body


class Remainder:
    """The beginning of a frame whose end has not come yet. Long frames come in many reads: each is kept as it is.

    The reader of the stream unpacks the frames itself, since a call for each would cost as much as all the rest:

        data = remainder.join(data)
        while start + FRAME_HEAD.size <= len(data): …
        remainder.keep(data, start)
    """

    __slots__ = ("_missing", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._missing = 0

    def join(self, data: bytes) -> bytes:
        """Return what is there now, from the beginning of a frame; empty as long as its end has not come."""
        parts = self._parts
        if not parts:
            return data
        parts.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return b""
        self._parts = []
        return b"".join(parts)

    def keep(self, data: bytes, start: int) -> None:
        """Keep the frame that begins at `start` and is not whole. Raises `ProtocolError` if it can't be one."""
        rest = data[start:]
        if not rest:
            return
        size = FRAME_HEAD.unpack_from(rest)[0] if len(rest) >= FRAME_HEAD.size else 0
        if size > BYTES_MAX:
            raise ProtocolError(f"a frame of {size} bytes")
        self._parts.append(rest)
        self._missing = FRAME_HEAD.size + size - len(rest)
