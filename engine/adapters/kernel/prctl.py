"""What a process asks of the kernel for itself: prctl, and the thread counts of numeric libraries.

Through ctypes, since nothing in the standard library speaks prctl. Linux only.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import resource
import sys
from collections.abc import MutableMapping

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_USUAL_DESCRIPTORS = 1024  # the usual soft limit; select() takes no number beyond it
_RESERVED_DESCRIPTORS = 16  # of these, for the engine
_OOM_SCORE = 500  # of 1000: half of the memory is added to what the process uses, when a victim is chosen

_libc = ctypes.CDLL(None, use_errno=True)  # at import, so that a freshly forked worker finds it loaded
_libc.mmap.restype = ctypes.c_void_p
_MAP_FAILED = ctypes.c_void_p(-1).value

THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "LOKY_MAX_CPU_COUNT",
)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies (a subreaper)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal: int) -> None:
    """Have the kernel send `signal` when the parent dies; 0 ends that. Not inherited by children."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def be_first_to_go() -> None:
    """Have the kernel, when memory runs out, rather end this process than a supervisor or Redis; inherited."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "r+") as file:
        if int(file.read()) < _OOM_SCORE:
            file.seek(0)
            file.write(str(_OOM_SCORE))


def set_threads(count: int, environ: MutableMapping[str, str]) -> None:
    """Limit the thread pools of BLAS, OpenMP and their like, where the user has not said otherwise.

    They read these variables once, when they are imported. A user who sets OMP_NUM_THREADS means all of them: some,
    such as torch with MKL, go by another one first.
    """
    asked = environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2": for nested regions
    number = asked if asked.isdecimal() and int(asked) else str(count)
    for name in THREAD_VARIABLES:
        environ.setdefault(name, number)


def flush_output() -> None:
    """Write out what Python and C libraries have buffered for stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or not there
            stream.flush()
    _libc.fflush(None)


def move_up(fd: int) -> int:
    """Move a descriptor to a number near the end of what is usual; return that, or `fd` where there is no room."""
    soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    at_least = min(soft_limit, _USUAL_DESCRIPTORS) - _RESERVED_DESCRIPTORS
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, at_least)
    except OSError:
        return fd
    os.close(fd)
    return moved


def map_shared(fd: int, size: int) -> "ctypes.Array[ctypes.c_char]":
    """Map a file that other processes map too. Unlike the mmap module this keeps no descriptor. Raises `OSError`."""
    address = _libc.mmap(None, ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd,
                         ctypes.c_long(0))
    if address in (None, _MAP_FAILED):
        code = ctypes.get_errno()
        raise OSError(code, f"mmap of {size} bytes: {os.strerror(code)}")
    return (ctypes.c_char * size).from_address(address)


def unmap(memory: "ctypes.Array[ctypes.c_char]") -> None:
    """Give back what `map_shared` gave; it must not be touched any more."""
    _libc.munmap(ctypes.c_void_p(ctypes.addressof(memory)), ctypes.c_size_t(ctypes.sizeof(memory)))


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")
