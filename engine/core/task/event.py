"""What happened to tasks, as the rows of the event stream: "id STATUS run".

Tasks that were submitted together share most of their ids, so their row is
written short, which saves 25 bytes of Redis's memory per task:

    01H5RC2K8D7QZ3*V0M4T,V0M4U,V0M4V QUEUED 0
    what they share, and the rest of each
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from engine.core.task.lifecycle import TaskStatus


class Event(NamedTuple):
    id: str
    status: TaskStatus
    run: int


def row(ids: Sequence[str], status: TaskStatus, run: int) -> str:
    """One row for one or more tasks that came into the same status together."""
    if len(ids) == 1:
        return f"{ids[0]} {status} {run}"
    shared = _shared(min(ids), max(ids))
    return f"{ids[0][:shared]}*{','.join([task_id[shared:] for task_id in ids])} {status} {run}"


def events(entry: bytes) -> Iterator[Event]:
    """Read the field "e" of one entry of the stream. Raises `ValueError` for what is none."""
    for line in entry.decode().splitlines():
        ids, status, run = line.split(" ")
        shared, _, rest = ids.rpartition("*")
        for tail in rest.split(","):
            yield Event(shared + tail, TaskStatus(status), int(run))


def _shared(first: str, last: str) -> int:
    """How many characters the two have in common; so has everything that sorts between them."""
    return next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), 0)
