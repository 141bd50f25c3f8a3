"""What one worker sends to its pool, as events in order: frames on its pipe for replies, and output past Python.

A worker replies when its output past Python has been read. So output that is read before a reply belongs to the run of
that reply, and output after it to the next run.
"""

import os
from collections.abc import Callable
from functools import partial

import orjson

from engine.adapters.process.pool.forensics import OutputTail
from engine.adapters.process.pool.output import WorkerOutput
from engine.adapters.process.pool.timers import Timers
from engine.core.worker import frames
from engine.core.worker.frames import FRAME_HEAD, REPLIED, ProtocolError, Remainder
from engine.ports.host import Event, Grown, HookFailed, Logged, Progressed, Replied, Spilled, Waits
from engine.ports.poller import Poller

_READ_BYTES_MAX = 65_536
_HEAD_BYTES = FRAME_HEAD.size
_make = tuple.__new__  # half the time of Replied(…)


class WorkerMessages:
    """Reads the pipe `fd`. What it reads becomes `events` of the worker in `slot`.

    `booted` is called when the worker says that it is up, `broken` with a reason when it breaks the protocol.
    """

    def __init__(self, slot: int, fd: int, poller: Poller, events: list[Event], booted: Callable[[], None],
                 broken: Callable[[str], None]) -> None:
        self._slot, self._fd, self._poller, self._events = slot, fd, poller, events
        self._booted, self._broken = booted, broken
        self._remainder, self.tail = Remainder(), OutputTail()
        self._outputs: list[WorkerOutput] = []
        self._has_output = False  # past Python, since the last reply
        poller.register(fd, self.read)

    def add_output(self, fd: int, stream: str, bytes_max: int, timers: Timers) -> None:
        """Read the pipe `fd` too, which is the worker's "stdout" or "stderr"; keep `bytes_max` of each run."""
        output = WorkerOutput(fd, self._poller, bytes_max, partial(self._spilled, stream),
                              lambda at_s: timers.set(output.drain, at_s), self.read)
        self._outputs.append(output)

    def read(self, mask: int = 0) -> bool:
        """Read once; return False when there was nothing."""
        if self._fd < 0:
            return False
        try:
            data = os.read(self._fd, _READ_BYTES_MAX)
        except BlockingIOError:
            return False
        if not data:
            self._forget()
            return False
        try:
            self._take_frames(self._remainder.join(data))
        except ProtocolError as error:
            self._forget()
            self._broken(f"it does not speak our language: {error}")
            return False
        if self._has_output:
            for output in self._outputs:
                output.new_run()
            self.tail.new_run()
            self._has_output = False
        return True

    def read_all(self) -> None:
        """Read until nothing is left, when the worker is gone."""
        while self._fd >= 0 and self.read():
            pass

    def close(self) -> None:
        """Read what is left of the output, and close the pipes."""
        self._forget()
        for output in self._outputs:
            output.close()

    def _take_frames(self, data: bytes) -> None:
        slot, append, unpack, start, end = self._slot, self._events.append, FRAME_HEAD.unpack_from, 0, len(data)
        while end - start >= _HEAD_BYTES:
            size, kind, token, verdict, wall_us = unpack(data, start)
            body = start + _HEAD_BYTES
            after = body + size
            if after > end:
                break
            if kind == REPLIED:
                append(_make(Replied, (slot, token, verdict, wall_us, data[body:after])))
            else:
                self._received(kind, token, data[body:after])
            start = after
        if start != end:
            self._remainder.keep(data, start)

    def _received(self, kind: bytes, token: int, body: bytes) -> None:
        if kind == frames.LOG:
            self._events.append(Logged(self._slot, token, body))
            self.tail.logged(token, body)
        elif kind == frames.PROGRESS:
            self._events.append(Progressed(self._slot, token, body))
            self.tail.progressed(token, body)
        elif kind == frames.GROWN:
            self._events.append(Grown(self._slot, _grown_bytes(body)))
        elif kind == frames.BOOTED:
            self._booted()
        elif kind == frames.WAITING:
            self._events.append(Waits(self._slot, body == b"1"))
        elif kind == frames.HOOK_FAILED:
            self._events.append(_hook_failure(self._slot, body))
        else:
            raise ProtocolError(f"a frame of kind {kind!r}")

    def _spilled(self, stream: str, text: str, dropped_bytes: int) -> None:
        self._has_output = True
        self._events.append(Spilled(self._slot, text, dropped_bytes, stream))
        self.tail.spilled(text)

    def _forget(self) -> None:
        if self._fd >= 0:
            self._poller.unregister(self._fd)
            os.close(self._fd)
            self._fd = -1


def _grown_bytes(body: bytes) -> int:
    """By how much a worker says that it has grown. Raises `ProtocolError` for a body that does not say so."""
    try:
        size = orjson.loads(body)["bytes"]
    except (ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"a growth of {body[:80]!r}") from error
    if type(size) is not int:
        raise ProtocolError(f"a growth of {body[:80]!r}")
    return size


def _hook_failure(slot: int, body: bytes) -> HookFailed:
    """How a worker says that a hook failed. Raises `ProtocolError` for a body that does not say so."""
    try:
        failure = orjson.loads(body)
        hook, moment, message, trace = (failure[name] for name in ("hook", "moment", "message", "traceback"))
    except (ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"a failure of {body[:80]!r}") from error
    if not all(isinstance(text, str) for text in (hook, moment, message, trace)):
        raise ProtocolError(f"a failure of {body[:80]!r}")
    return HookFailed(slot, moment != "on_worker_stop", hook, message, trace)
