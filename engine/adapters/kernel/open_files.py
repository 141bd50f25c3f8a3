"""Files that this process has open for writing, and what they hold in their buffers.

Python flushes them when an interpreter ends. A worker does not end its interpreter, since that would run finalisers of
objects that belong to the fork server as well, such as that of a connection which says goodbye to its server.
"""

import gc
import io
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

_BUFFERED = (io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair)

_inherited: "list[weakref.ref[Any]]" = []


def note() -> None:
    """Flush what is open now, so that no fork writes it again, and remember it: to be called before gc.freeze()."""
    _inherited[:] = [weakref.ref(file) for file in _files(gc.get_objects())]
    flush()


def flush() -> None:
    """Write out what the buffers hold, of files that were open at the fork and of those that were opened since."""
    noted = [file for reference in _inherited if (file := reference()) is not None and _is_of_io(file)]
    files = [*noted, *_files(gc.get_objects())]  # what is frozen is not among the latter
    for file in sorted(files, key=_depth):
        with suppress(Exception):  # closed, or its descriptor is gone
            if _is_of_io(file):
                file.flush()
            elif file.writable():  # such as GzipFile, which writes its end when it is closed
                file.close()


def _files(objects: Iterable[Any]) -> list[Any]:
    """Those that buffer. By their types alone: asking an object might run a user's code."""
    return [one for one in objects if issubclass(type(one), io.IOBase) and not issubclass(type(one), io.RawIOBase)]


def _depth(file: Any) -> int:
    """Text goes into bytes, these perhaps into a packer, and this into a buffer of the file."""
    return 0 if isinstance(file, io.TextIOBase) else 2 if isinstance(file, _BUFFERED) else 1


def _is_of_io(file: Any) -> bool:
    return type(file).__module__ in ("io", "_io")
