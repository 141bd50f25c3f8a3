"""One worker, as its pool sees it: the pipes to it, what came over them, and its end.

The end of a worker, once asked for:  stacks (`dump_s` at most) → stop it and all below → kill them → the fork server
reports that nothing is left. Nothing here waits: the poller and `tick` bring it on.
"""

import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from engine.adapters.kernel import descendants
from engine.adapters.kernel.identity import Identity, born_at
from engine.adapters.process.pool import suspension
from engine.adapters.process.pool.forensics import OutputTail, StackText, answers, proc_facts, sender_of, signal_name
from engine.adapters.process.pool.output import WorkerOutput
from engine.adapters.process.pool.task_channel import TaskChannel
from engine.adapters.process.pool.timers import Timers
from engine.adapters.process.resources.enforcement import ResourceEnforcer
from engine.core.worker import frames
from engine.core.worker.frames import FRAME_HEAD, REPLIED, ProtocolError, Remainder
from engine.ports.host import (
    Booted,
    Dumped,
    Event,
    Exited,
    Grown,
    HookFailed,
    HostSettings,
    Logged,
    Progressed,
    Replied,
    Spilled,
    Waits,
)
from engine.ports.poller import HANG_UP, Poller

_DUMP_DEAF_S = 0.002  # for the stacks of a worker that most likely can't answer
_DUMP_HUNGRY_S = 0.02  # for those of one that takes more memory meanwhile
_DUMP_ALIVE_S = 0.5  # for those of one that is not to be killed
_STRIKE_AGAIN_S = 0.25
_READ_BYTES_MAX = 65_536
_HEAD_BYTES = FRAME_HEAD.size
_make = tuple.__new__  # half the time of Replied(…)


@dataclass(slots=True)
class WorkerEnding:
    """How far the end of a worker is."""

    why: str | None = None
    facts: dict[str, Any] | None = None  # of /proc, before the kill
    no_stacks: str = ""  # why there will be none, if there are none
    is_asked: bool = False  # stacks are awaited
    is_watched: bool = False  # by somebody who wants them while the run goes on
    is_struck: bool = False


class WorkerLink:
    def __init__(self, slot: int, poller: Poller, timers: Timers, events: list[Event], settings: HostSettings,
                 enforcer: ResourceEnforcer) -> None:
        self.slot, self.pid, self._pidfd = slot, 0, -1
        self.identity = Identity(0, None)
        self._dump_s, self.enforcer = settings.dump_s, enforcer
        self._poller, self._timers, self._events = poller, timers, events
        self.is_up = self.is_quitting = self._has_booted = self._is_listening = False
        self.ending = WorkerEnding()
        self._is_suspended = False
        self._suspended: set[int] = set()  # pids that we have stopped, where there is no cgroup
        self._stacks, self._remainder, self._tail = StackText(), Remainder(), OutputTail()
        self._tasks = TaskChannel(poller)
        self.send = self._tasks.send
        self._replies, replies = _pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control, control = ours.detach(), theirs.detach()
        (stdout, stdout_end), (stderr, stderr_end) = _pipe(), _pipe()
        self._dump, dump = _pipe()
        for fd in (self._control, control, dump):  # written and read from signal handlers, which must not wait
            os.set_blocking(fd, False)
        self.handed_over = (self._tasks.theirs, replies, control, stdout_end, stderr_end, dump)
        self._has_output = False  # past Python, since the last reply
        self._outputs = (self._output(stdout, "stdout", settings.log_bytes_max),
                         self._output(stderr, "stderr", settings.log_bytes_max))
        poller.register(self._replies, self._read_replies)

    # -- what the host asks ---------------------------------------------------------------------------------------

    def take_back(self) -> list[bytes]:
        taken = self._tasks.take_back()
        if frames.QUIT in taken:
            self._tasks.send(frames.QUIT)
        return [message for message in taken if message != frames.QUIT]

    def quit(self) -> None:
        self.is_quitting = True
        self._tasks.send(frames.QUIT)

    def interrupt(self, token: int, reason: bytes) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._control, frames.CONTROL.pack(token, reason, 0.0))
            self._signal(signal.SIGUSR1)

    def suspend(self) -> None:
        """Stop the worker: by its cgroup where it has one, which neither the processes nor their parents can notice."""
        self._is_suspended = True
        if not self.enforcer.suspend():
            self._suspended = suspension.suspend(self.pid)

    def resume(self, token: int | None, suspended_s: float) -> None:
        """Continue the worker, and tell the run for how long it was suspended."""
        if token is not None:
            with suppress(BlockingIOError, BrokenPipeError):
                os.write(self._control, frames.CONTROL.pack(token, frames.WAS_SUSPENDED, suspended_s))
                self._signal(signal.SIGUSR1)
        self._is_suspended = False
        self.enforcer.resume()
        suspension.resume(self.pid, self._suspended)
        self._suspended = set()

    def spawned(self, pid: int, pidfd: int) -> None:
        """The fork server's word that there is a process; may come after the process's own."""
        self.pid, self._pidfd, self.identity = pid, pidfd, Identity(pid, born_at(pid))
        self.enforcer.begin(pid)
        self._check_boot()
        if self.ending.why is not None:
            self._strike(time.monotonic())

    def kill(self, why: str) -> None:
        if self.ending.why is None:
            self.ending.why = why
            if self._is_suspended:  # it could not tell its stacks
                self.enforcer.resume()
            if self.is_up or (self.pid and answers(self.pid)):  # the latter: a hook of the user's may hang
                self._ask_for_stacks()
            elif self.pid:  # it has no signal handlers yet, nor anything to tell; without a pid, `spawned` will do it
                self._strike(time.monotonic())

    def dump(self) -> None:
        if self._is_suspended:
            self._events.append(Dumped(self.slot, "it stands still, so that an urgent run can have its place\n"))
        elif self.is_up and not self.ending.is_struck:
            self.ending.is_watched = True
            self._ask_for_stacks()
        else:
            self._events.append(Dumped(self.slot, ""))

    # -- stacks and the end ---------------------------------------------------------------------------------------

    def _ask_for_stacks(self) -> None:
        ending = self.ending
        patience_s = _DUMP_ALIVE_S
        if ending.why is not None:
            hears = answers(self.pid)
            patience_s = self._patience_s() if hears else _DUMP_DEAF_S
            ending.no_stacks = f"it did not answer within {patience_s:g} s" if hears else "it blocks or ignores SIGUSR2"
        self._timers.set(self._have_stacks, time.monotonic() + patience_s)
        if ending.is_asked:  # by somebody who watches
            return
        ending.is_asked, ending.facts = True, proc_facts(self.pid)
        self._read_dump()
        self._read_marks()
        self._stacks.clear()
        self._listen_for_marks(True)
        self._signal(signal.SIGUSR2)
        if ending.why is not None:  # one that was told to stop may not have heard of it yet, and seem to run
            self._signal(signal.SIGCONT)

    def _patience_s(self) -> float:
        """A run that is out of memory takes more while it is waited for."""
        return min(self._dump_s, _DUMP_HUNGRY_S) if self.enforcer.is_hungry else self._dump_s

    def _have_stacks(self, now_s: float) -> None:
        """The stacks are here, or will not come."""
        ending = self.ending
        ending.is_asked = False
        self._timers.set(self._have_stacks, None)
        self._listen_for_marks(False)
        self._read_dump()
        if ending.is_watched:
            ending.is_watched = False
            self._events.append(Dumped(self.slot, self._stacks.text))
        if ending.why is not None:
            self._strike(now_s)
        else:
            self._stacks.clear()

    def _strike(self, now_s: float) -> None:
        """Stop the worker and everything below it, then kill them; again, if it should not be gone by then."""
        was_struck, self.ending.is_struck = self.ending.is_struck, True
        self._timers.set(self._strike, now_s + _STRIKE_AGAIN_S)
        if self._signal(signal.SIGSTOP):
            known = descendants.freeze([self.pid])
            if not was_struck:
                self.enforcer.final_usage.close(self.pid, known[1:])
            descendants.kill(known)
            self.enforcer.kill()

    def _signal(self, number: signal.Signals) -> bool:
        """Through the pidfd, which can't mean another process of the same number."""
        if self._pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def _check_boot(self) -> None:
        """A worker is up when it said so and can be signalled."""
        if self._has_booted and self.pid:
            self.is_up = True
            self.enforcer.booted()
            self._events.append(Booted(self.slot, self.pid))

    # -- what came ------------------------------------------------------------------------------------------------

    def _read_replies(self, mask: int = 0) -> bool:
        """Read once; False when there was nothing."""
        if self._replies < 0:
            return False
        try:
            data = os.read(self._replies, _READ_BYTES_MAX)
        except BlockingIOError:
            return False
        if not data:
            self._forget_replies()
            return False
        try:
            self._take_frames(self._remainder.join(data))
        except ProtocolError as error:
            self._forget_replies()
            self.kill(f"it does not speak our language: {error}")
            return False
        if self._has_output:
            for output in self._outputs:
                output.new_run()
            self._tail.new_run()
            self._has_output = False
        return True

    def _take_frames(self, data: bytes) -> None:
        slot, append, unpack, start, end = self.slot, self._events.append, FRAME_HEAD.unpack_from, 0, len(data)
        while end - start >= _HEAD_BYTES:
            size, kind, token, verdict, wall_us = unpack(data, start)
            body = start + _HEAD_BYTES
            after = body + size
            if after > end:
                break
            if kind == REPLIED:
                append(_make(Replied, (slot, token, verdict, wall_us, data[body:after])))
            else:
                self._heard(kind, token, data[body:after])
            start = after
        if start != end:
            self._remainder.keep(data, start)

    def _heard(self, kind: bytes, token: int, body: bytes) -> None:
        if kind == frames.LOG:
            self._events.append(Logged(self.slot, token, body))
            self._tail.logged(token, body)
        elif kind == frames.PROGRESS:
            self._events.append(Progressed(self.slot, token, body))
            self._tail.progressed(token, body)
        elif kind == frames.GROWN:
            self._events.append(Grown(self.slot, _grown_bytes(body)))
        elif kind == frames.BOOTED:
            self._has_booted = True
            self._check_boot()
        elif kind == frames.WAITING:
            self._events.append(Waits(self.slot, body == b"1"))
        elif kind == frames.HOOK_FAILED:
            self._events.append(_failure(self.slot, body))
        else:
            raise ProtocolError(f"a frame of kind {kind!r}")

    def _read_dump(self) -> None:
        """The dump pipe is read when its dump is complete, or too late: each write to it would wake us."""
        with suppress(BlockingIOError):
            while data := os.read(self._dump, _READ_BYTES_MAX):
                self._stacks.feed(data)

    def _listen_for_marks(self, listening: bool) -> None:
        if listening and not self._is_listening:
            self._poller.register(self._control, self._marked)
        elif self._is_listening and not listening:
            self._poller.unregister(self._control)
        self._is_listening = listening

    def _read_marks(self) -> bytes:
        """Numbers of signals that the worker's Python handlers got, since the last look."""
        marks = b""
        with suppress(BlockingIOError, ConnectionError):
            while mark := os.read(self._control, 64):
                marks += mark
        return marks

    def _marked(self, mask: int) -> None:
        """faulthandler calls the handler before it when it has finished, which is Python's: see `worker_start`.

        Between the mark and its own return it is not in place: a signal at that moment leaves a mark only.
        """
        if self.ending.is_asked and (signal.SIGUSR2 in self._read_marks() or mask & HANG_UP):
            self._read_dump()
            if self._stacks or mask & HANG_UP:
                self._have_stacks(time.monotonic())
            else:
                self._signal(signal.SIGUSR2)

    def _output(self, fd: int, stream: str, bytes_max: int) -> WorkerOutput:
        output = WorkerOutput(fd, self._poller, bytes_max, partial(self._spilled, stream),
                              lambda at_s: self._timers.set(output.drain, at_s), self._read_replies)
        return output

    def _spilled(self, stream: str, text: str, dropped_bytes: int) -> None:
        self._has_output = True
        self._events.append(Spilled(self.slot, text, dropped_bytes, stream))
        self._tail.spilled(text)

    # -- when all is over -----------------------------------------------------------------------------------------

    def exited(self, status: int | None, usage: dict[str, Any], reason: str = "", *, stranded: bool = False,
               refused: bool = False) -> None:
        """Nothing is left of it: read what it had written, report, and close."""
        while self._replies >= 0 and self._read_replies():
            pass
        self._listen_for_marks(False)
        self._read_dump()
        code = number = None
        if status is not None:
            code, number = (None, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (os.WEXITSTATUS(status), None)
        name = None if number is None else signal_name(number)
        oom = self.enforcer.oom() if name == "SIGKILL" and not self.ending.is_struck else None
        usage, unread = self.enforcer.usage(usage), self.take_back()
        self._close()
        if self.ending.is_watched:
            self._events.append(Dumped(self.slot, self._stacks.text))
        post_mortem = self._post_mortem(code, name, reason, oom is not None)
        self._events.append(Exited(self.slot, self.pid, code, name, usage, post_mortem, unread, stranded, oom,
                                   self._tail.of, self._tail.progress_of, refused))

    def _post_mortem(self, code: int | None, name: str | None, reason: str, oom: bool) -> dict[str, Any] | None:
        ending = self.ending
        if self.is_quitting and ending.why is None and code == 0:
            return None
        stacks = self._stacks.text
        silence = {"no_stacks": ending.no_stacks} if ending.no_stacks and not stacks else {}
        return {"why": ending.why or reason or "it ended by itself", "stacks": stacks, **silence, "signal": name,
                "sender": sender_of(name, ours=ending.is_struck, oom=oom), "proc": ending.facts,
                **self.enforcer.facts()}

    def _forget_replies(self) -> None:
        if self._replies >= 0:
            self._poller.unregister(self._replies)
            os.close(self._replies)
            self._replies = -1

    def _close(self) -> None:
        for action in (self._strike, self._have_stacks):
            self._timers.set(action, None)
        self._forget_replies()
        self.enforcer.close()
        for output in self._outputs:
            output.close()
        self._tasks.close()
        for fd in (self._dump, self._control, self._pidfd):
            if fd >= 0:
                os.close(fd)


def _pipe() -> tuple[int, int]:
    """A pipe that we read, without ever waiting."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)
    return reader, writer


def _grown_bytes(body: bytes) -> int:
    """What a worker says of its growth. Raises `ProtocolError` for anything else that stands there."""
    try:
        size = orjson.loads(body)["bytes"]
    except (ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"a growth of {body[:80]!r}") from error
    if type(size) is not int:
        raise ProtocolError(f"a growth of {body[:80]!r}")
    return size


def _failure(slot: int, body: bytes) -> HookFailed:
    """What a worker says of a hook. Raises `ProtocolError` for anything else that stands there."""
    try:
        told = orjson.loads(body)
        hook, moment, message, trace = (told[name] for name in ("hook", "moment", "message", "traceback"))
    except (ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"a failure of {body[:80]!r}") from error
    if not all(isinstance(text, str) for text in (hook, moment, message, trace)):
        raise ProtocolError(f"a failure of {body[:80]!r}")
    return HookFailed(slot, moment != "on_worker_stop", hook, message, trace)
