"""Tasks that do not end, or end badly, as plain functions: the same for every engine that is measured."""

import os
import subprocess
import time

from bench.marks import mark

MIB = 1 << 20
STEP_BYTES = 5 * MIB
STEPS_PER_S = 100  # 500 MB a second


def loop(path: str) -> None:
    """For ever, in Python, as any mistake might."""
    mark(path)
    while True:
        pass


def deaf(path: str) -> None:
    """For ever, ignoring every exception."""
    mark(path)
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001, S112  that is its point
            continue


def in_c(path: str) -> int:
    """For ever, in C, with the GIL held."""
    mark(path)
    return sum(range(10**12))


def family(path: str) -> None:
    """For ever, with a child in a session of its own; the mark is the child's."""
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    mark(path, child.pid)
    while True:
        pass


def grow(path: str) -> None:
    """Take 500 MB a second, and write down when this process had how many bytes of its own."""
    held, before_bytes, began_s = [], _own_bytes(), time.monotonic()
    mark(path)
    with open(f"{path}.steps", "w", buffering=1) as steps:
        while True:
            held.append(b"x" * STEP_BYTES)
            print(time.monotonic_ns(), before_bytes + len(held) * STEP_BYTES, file=steps)
            time.sleep(max(0.0, began_s + len(held) / STEPS_PER_S - time.monotonic()))


def _own_bytes() -> int:
    """What is resident of this process and is no mapped file."""
    with open("/proc/self/statm") as statm:
        _, resident, shared, *_ = map(int, statm.read().split())
    return (resident - shared) * os.sysconf("SC_PAGESIZE")


def spin(path: str, for_s: float) -> None:
    mark(path)
    end_s = time.monotonic() + for_s
    while time.monotonic() < end_s:
        pass


def moment(path: str) -> None:
    """Nothing but to say when it began."""
    mark(path)


def abort() -> None:
    """Kill its own process, as a crash in C does."""
    os.kill(os.getpid(), 9)
