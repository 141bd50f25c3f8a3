"""Holds processes to some cores of the host. Libraries that ask how many there are get that number."""

import os
from collections.abc import Collection
from contextlib import suppress

from engine.adapters.kernel.descendants import descendants


def hold(cores: Collection[int]) -> None:
    """This process, and all that it starts from now on. Without effect where the cores are not ours to use."""
    if cores:
        with suppress(OSError):
            os.sched_setaffinity(0, cores)


def move(pid: int, cores: Collection[int]) -> None:
    """All threads of a process and of those below it."""
    for one in (pid, *descendants(pid)):
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{one}/task"):
                with suppress(OSError):
                    os.sched_setaffinity(int(thread), cores)
