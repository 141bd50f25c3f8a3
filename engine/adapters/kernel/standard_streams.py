"""The first three descriptors, which every program takes for granted.

Where one is closed (`>&-`), the next socket or file would take its number, and what a child writes to its standard
output would go there.
"""

import os


def open_closed() -> set[int]:
    """Open /dev/null on each of the first three descriptors that is closed; returns which these were."""
    closed = {descriptor for descriptor in range(3) if not _is_open(descriptor)}
    for _ in closed:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
    return closed


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
