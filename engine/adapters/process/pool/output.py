"""Output of a worker that goes round Python: C code and children write to descriptors 1 and 2.

Each of the two is a pipe of its own. Of one run as much is kept of each as its log may have. What comes after that is
moved to /dev/null by the kernel, a pipeful at a time and on a beat of ours, so that a flood neither fills memory nor
takes the pool's time, nor holds up its writer.
"""

import codecs
import contextlib
import fcntl
import os
from collections.abc import Callable

from engine.ports.poller import Poller

_READ_BYTES_MAX = 65_536
_FLOOD_PIPE_BYTES = 1 << 20
_BEAT_S = 0.002  # a pipeful each beat is 500 MB/s
_F_SETPIPE_SZ = 1031


class WorkerOutput:
    """One worker's pipe. `spill(text, dropped_bytes)` gets what is kept, `alarm` the moment of the next `drain`.

    `before` is called before the pipe is read. It reads the replies: a worker replies when its output has been read, so
    what is here now belongs to the run after the last reply.
    """

    def __init__(self, fd: int, poller: Poller, bytes_max: int, spill: Callable[[str, int], None],
                 alarm: Callable[[float | None], None], before: Callable[[], object] = lambda: None) -> None:
        self._before = before
        self._fd, self._poller, self._bytes_max, self._spill, self._alarm = fd, poller, bytes_max, spill, alarm
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._room = bytes_max
        self._dropped = 0
        self._null = -1
        self._is_open = True
        self._is_flooded = False
        poller.register(fd, self._ready)

    def new_run(self) -> None:
        """What comes from here on belongs to another run."""
        self._room = self._bytes_max
        if self._is_flooded:
            self._splice()
            self._listen()
        if self._dropped:
            self._tell("")

    def drain(self, now_s: float) -> None:
        """Throw a pipeful away; listen again when there was nothing."""
        if self._splice():
            self._alarm(now_s + _BEAT_S)
        else:
            self._listen()

    def close(self) -> None:
        """Take what is left, and close. The writers are gone."""
        if self._is_flooded:
            self._listen()
        while self._is_open and self._room and self._take():
            pass
        if self._is_open:
            self._splice()
            self._end()
        if self._dropped:
            self._tell("")
        os.close(self._fd)
        if self._null >= 0:
            os.close(self._null)

    def _ready(self, mask: int) -> None:
        if not self._is_open:
            return
        self._before()
        if self._room:
            self._take()
        else:
            self._poller.unregister(self._fd)
            self._is_flooded = True
            self._alarm(0.0)

    def _take(self) -> bool:
        """Read and pass on what there is; False if there was nothing."""
        try:
            data = os.read(self._fd, _READ_BYTES_MAX)
        except BlockingIOError:
            return False
        if not data:
            self._end()
            return False
        kept = data[: self._room]
        self._room -= len(kept)
        self._dropped += len(data) - len(kept)
        self._tell(self._decode(kept))
        return True

    def _splice(self) -> int:
        """Move at most a pipeful to /dev/null; the kernel only drops the pages."""
        if self._null < 0:
            self._null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # over the user's share of pipe memory: smaller steps, then
                fcntl.fcntl(self._fd, _F_SETPIPE_SZ, _FLOOD_PIPE_BYTES)
        moved = 0
        with contextlib.suppress(BlockingIOError):
            while moved < _FLOOD_PIPE_BYTES and (step := os.splice(self._fd, self._null, _FLOOD_PIPE_BYTES)):
                moved += step
        self._dropped += moved
        return moved

    def _listen(self) -> None:
        self._is_flooded = False
        self._alarm(None)
        self._poller.register(self._fd, self._ready)

    def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._poller.unregister(self._fd)

    def _tell(self, text: str) -> None:
        dropped, self._dropped = self._dropped, 0
        self._spill(text, dropped)
