"""One worker, as its pool sees it: its process, the pipes to it, and the report of its end.

What it sends is read by `WorkerMessages`, its kill is carried out by `WorkerEnding`.
"""

import os
import signal
import socket
from contextlib import suppress
from typing import Any

from engine.adapters.kernel.identity import Identity, born_at
from engine.adapters.process.pool import suspension
from engine.adapters.process.pool.forensics import signal_name
from engine.adapters.process.pool.task_channel import TaskChannel
from engine.adapters.process.pool.timers import Timers
from engine.adapters.process.pool.worker_ending import WorkerEnding
from engine.adapters.process.pool.worker_messages import WorkerMessages
from engine.adapters.process.resources.enforcement import ResourceEnforcer
from engine.core.worker import frames
from engine.ports.host import Booted, Dumped, Event, Exited, HostSettings
from engine.ports.poller import Poller


class WorkerLink:
    """The worker of the slot `slot`. `handed_over` are the worker's ends of its pipes, in the order it takes them."""

    def __init__(self, slot: int, poller: Poller, timers: Timers, events: list[Event], settings: HostSettings,
                 enforcer: ResourceEnforcer) -> None:
        self.slot, self.pid = slot, 0
        self.identity = Identity(0, None)
        self.enforcer, self._events = enforcer, events
        self.is_up = self.is_quitting = self._has_booted = False
        self._is_suspended = False
        self._suspended: set[int] = set()  # pids that we have stopped, where there is no cgroup
        self._tasks = TaskChannel(poller)
        self.send = self._tasks.send
        replies, replies_end = _pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control, control_end = ours.detach(), theirs.detach()
        (stdout, stdout_end), (stderr, stderr_end) = _pipe(), _pipe()
        dump, dump_end = _pipe()
        for fd in (self._control, control_end, dump_end):  # written and read from signal handlers, which must not wait
            os.set_blocking(fd, False)
        self.handed_over = (self._tasks.theirs, replies_end, control_end, stdout_end, stderr_end, dump_end)
        self._messages = WorkerMessages(slot, replies, poller, events, self._booted, self.kill)
        for fd, stream in ((stdout, "stdout"), (stderr, "stderr")):
            self._messages.add_output(fd, stream, settings.log_bytes_max, timers)
        self._ending = WorkerEnding(slot, self._control, dump, poller, timers, events, enforcer, settings.dump_s)

    def take_back(self) -> list[bytes]:
        """Take back the tasks that the worker has not begun to read, oldest first."""
        taken = self._tasks.take_back()
        if frames.QUIT in taken:
            self._tasks.send(frames.QUIT)
        return [message for message in taken if message != frames.QUIT]

    def quit(self) -> None:
        """Ask the worker to end in good order, after the tasks that it has."""
        self.is_quitting = True
        self._tasks.send(frames.QUIT)

    def interrupt(self, token: int, reason: bytes) -> None:
        """Have the run `token` interrupted; `reason` is one of those of `frames.CONTROL`."""
        self._control_run(token, reason, 0.0)

    def suspend(self) -> None:
        """Stop the worker: by its cgroup where it has one, which neither the processes nor their parents can notice."""
        self._is_suspended = True
        if not self.enforcer.suspend():
            self._suspended = suspension.suspend(self.pid)

    def resume(self, token: int | None, suspended_s: float) -> None:
        """Continue the worker, and tell the run `token` for how long it was suspended."""
        if token is not None:
            self._control_run(token, frames.WAS_SUSPENDED, suspended_s)
        self._is_suspended = False
        self.enforcer.resume()
        suspension.resume(self.pid, self._suspended)
        self._suspended = set()

    def spawned(self, pid: int, pidfd: int) -> None:
        """The fork server says that there is a process; the worker itself may have said so before."""
        self.pid, self.identity = pid, Identity(pid, born_at(pid))
        self.enforcer.begin(pid)
        self._check_boot()
        self._ending.spawned(pid, pidfd)

    def kill(self, why: str) -> None:
        """Kill the worker and everything below it, once; `why` is for its post-mortem."""
        if self._ending.why is None:
            if self._is_suspended:  # it could not tell its stacks
                self.enforcer.resume()
            self._ending.kill(why, is_up=self.is_up)

    def dump(self) -> None:
        """Report the stacks of the worker, which goes on."""
        if self._is_suspended:
            self._events.append(Dumped(self.slot, "it stands still, so that an urgent run can have its place\n"))
        elif self.is_up and not self._ending.has_struck:
            self._ending.dump()
        else:
            self._events.append(Dumped(self.slot, ""))

    def exited(self, status: int | None, usage: dict[str, Any], reason: str = "", *, stranded: bool = False,
               refused: bool = False) -> None:
        """Nothing is left of the worker: read what it had written, report its end, and close.

        `status` is that of os.wait(), None where it is not known. `reason` stands where the pool has killed nothing.
        """
        self._messages.read_all()
        self._ending.finish()
        code = number = None
        if status is not None:
            code, number = (None, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (os.WEXITSTATUS(status), None)
        name = None if number is None else signal_name(number)
        oom = self.enforcer.oom() if name == "SIGKILL" and not self._ending.has_struck else None
        usage, unread = self.enforcer.usage(usage), self.take_back()
        self._close()
        self._ending.report_watched()
        ended_as_asked = self.is_quitting and self._ending.why is None and code == 0
        post_mortem = None if ended_as_asked else self._ending.post_mortem(name, reason, oom=oom is not None)
        tail = self._messages.tail
        self._events.append(Exited(self.slot, self.pid, code, name, usage, post_mortem, unread, stranded, oom,
                                   tail.of, tail.progress_of, refused))

    def _control_run(self, token: int, reason: bytes, suspended_s: float) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._control, frames.CONTROL.pack(token, reason, suspended_s))
            self._ending.send_signal(signal.SIGUSR1)

    def _booted(self) -> None:
        self._has_booted = True
        self._check_boot()

    def _check_boot(self) -> None:
        """A worker is up when it said so and can be signalled."""
        if self._has_booted and self.pid:
            self.is_up = True
            self.enforcer.booted()
            self._events.append(Booted(self.slot, self.pid))

    def _close(self) -> None:
        self.enforcer.close()
        self._messages.close()
        self._tasks.close()
        self._ending.close()


def _pipe() -> tuple[int, int]:
    """A pipe that we read, without ever waiting."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)
    return reader, writer
