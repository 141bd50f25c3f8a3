"""Reaping in an idle worker, with each order of a death and of the listing of children forced."""

import multiprocessing
import os
import select
import signal
from collections.abc import Callable

from engine.adapters.kernel import descendants, prctl
from engine.adapters.process.between_runs.orphans import Orphans

PATIENCE_S = 30.0
Children = tuple[list[int], set[int]]


class DeathBeforeListing(Orphans):
    """The child dies after the look for dead children, and before the children to watch are listed."""

    def __init__(self, tasks: int, pid: int) -> None:
        super().__init__(tasks)
        self.pid = pid

    def _children(self) -> Children:
        if is_running(self.pid):
            os.kill(self.pid, signal.SIGKILL)
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        return super()._children()


class AdoptionAfterListing(Orphans):
    """The worker adopts a process, which dies, after its children are listed. The last listing sends a task."""

    def __init__(self, tasks: int, send_task: int, adopt: Callable[[], int]) -> None:
        super().__init__(tasks)
        self.send_task, self.adopt = send_task, adopt
        self.adopted = 0

    def _children(self) -> Children:
        children = super()._children()
        if not self.adopted:
            self.adopted = self.adopt()
        elif not children[1]:
            os.write(self.send_task, b"T")
        return children


def is_running(pid: int) -> bool:
    fields = descendants.stat_fields(pid)
    return fields is not None and fields[0] not in "ZX"


def in_fresh_process(function: Callable[[], None]) -> None:
    """Run it in a process without other children, and with none that a failure leaves."""
    process = multiprocessing.get_context("spawn").Process(target=function)
    process.start()
    process.join(PATIENCE_S)
    if process.exitcode is None:
        descendants.end([process.pid or 0])
        process.join()
    assert process.exitcode == 0


def reap_a_child_that_dies_unwatched() -> None:
    tasks, _ = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.pause()
    assert DeathBeforeListing(tasks, pid).reap()
    assert descendants.stat_fields(pid) is None


def reap_a_process_that_is_adopted_unwatched() -> None:
    prctl.adopt_orphans()
    tasks, send_task = os.pipe()
    go, said = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:  # lives on; its child leaves a process without a parent when told to
        os.read(go[0], 1)
        if os.fork() == 0:
            orphan = os.fork()
            if orphan:
                os.write(said[1], b"%d" % orphan)
                os._exit(0)
            signal.pause()
        signal.pause()

    def adopt() -> int:
        os.write(go[1], b"1")
        pid = int(os.read(said[0], 20))
        intermediate = int((descendants.stat_fields(pid) or ["", "0"])[1])
        if intermediate not in (os.getpid(), 0):
            wait_for_death(intermediate)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return pid

    orphans = AdoptionAfterListing(tasks, send_task, adopt)
    assert orphans.reap()
    assert descendants.stat_fields(orphans.adopted) is None
    assert descendants.children(os.getpid()) == [child]
    os.kill(child, signal.SIGKILL)


def wait_for_death(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([pidfd], [], [])
    os.close(pidfd)


def test_a_child_that_dies_before_it_is_watched_is_reaped() -> None:
    in_fresh_process(reap_a_child_that_dies_unwatched)


def test_a_process_that_is_adopted_during_the_wait_is_reaped() -> None:
    in_fresh_process(reap_a_process_that_is_adopted_unwatched)
