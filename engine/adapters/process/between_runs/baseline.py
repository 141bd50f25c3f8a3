"""What earlier runs have left in a worker when the next one begins: memory, processes, and what these go on to use.

None of it is charged to the run that begins now. What a thread of an earlier run uses meanwhile cannot be told apart.
"""

from contextlib import suppress

from engine.adapters.kernel.descendants import children, descendants, stat_fields

_HELD = (b"RssAnon", b"RssShmem", b"VmSwap")
_START = 19  # the field of its start, which tells a process from a later one of the same number


class Baseline:
    """`born_bytes` is what the worker held when it was fresh; None if that is not known."""

    def __init__(self, pid: int, born_bytes: int | None) -> None:
        self._pid = pid
        self.own_bytes = 0 if born_bytes is None else max(0, held_bytes(pid) - born_bytes)  # of the worker itself
        self._left: dict[int, tuple[str, int]] = {}  # pid -> start, ticks used by the last look
        self._gone_ticks = 0  # of those that have ended since
        for one in descendants(pid):
            if (fields := stat_fields(one)) is not None:
                self._left[one] = fields[_START], ticks_of(fields)

    def tree(self) -> list[int]:
        """The worker and what is below it, without the processes that were left and all below them."""
        found = [self._pid]
        for one in found:  # grows while it is walked
            found.extend(child for child in children(one) if not self._is_left(child))
        return found

    def present(self) -> list[int]:
        """The processes that were left and are there still."""
        return [pid for pid in self._left if self._is_left(pid)]

    def gone_ticks(self) -> int:
        """CPU time of those that have ended: the worker shows it as its children's once it has waited for them."""
        for pid, (start, ticks) in list(self._left.items()):
            fields = stat_fields(pid)
            if fields is not None and fields[_START] == start:
                self._left[pid] = start, ticks_of(fields)
            else:
                del self._left[pid]
                self._gone_ticks += ticks
        return self._gone_ticks

    def all_ticks(self) -> int:
        """CPU time of all that were left, whether they are there still or not."""
        return self.gone_ticks() + sum(ticks for _, ticks in self._left.values())

    def _is_left(self, pid: int) -> bool:
        if pid not in self._left:
            return False
        fields = stat_fields(pid)
        return fields is not None and fields[_START] == self._left[pid][0]


def held_bytes(pid: int) -> int:
    """Memory that a process holds and the kernel cannot simply take back."""
    return sum(kilobytes(f"/proc/{pid}/status", _HELD))


def kilobytes(path: str, names: tuple[bytes, ...]) -> list[int]:
    """Figures of a file of `Name:  123 kB` lines, in bytes; none of a process that is gone."""
    found = []
    with suppress(OSError), open(path, "rb") as file:
        for line in file:
            name, _, rest = line.partition(b":")
            if name in names:
                found.append(int(rest.split()[0]) * 1024)
    return found


def ticks_of(fields: list[str]) -> int:
    """CPU time by `stat_fields`: of a process, and of the children that it has waited for."""
    return sum(map(int, fields[11:15]))
