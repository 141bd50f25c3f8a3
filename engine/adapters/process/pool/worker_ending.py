"""How one worker is killed, and how its stacks are taken, with a kill or while its run goes on.

Stacks (`dump_s` at most) → stop it and all below → kill them → the fork server reports that nothing is left. Nothing
here waits: the poller and the timers bring it on.
"""

import os
import signal
import time
from contextlib import suppress
from typing import Any

from engine.adapters.kernel import descendants
from engine.adapters.process.pool.forensics import StackText, answers, proc_facts, sender_of
from engine.adapters.process.pool.timers import Timers
from engine.adapters.process.resources.enforcement import ResourceEnforcer
from engine.ports.host import Dumped, Event
from engine.ports.poller import HANG_UP, Poller

_DUMP_DEAF_S = 0.002  # for the stacks of a worker that most likely can't answer
_DUMP_HUNGRY_S = 0.02  # for those of one that takes more memory meanwhile
_DUMP_ALIVE_S = 0.5  # for those of one that is not to be killed
_STRIKE_AGAIN_S = 0.25
_READ_BYTES_MAX = 65_536


class WorkerEnding:
    """Of the worker in `slot`. `control` and `dump` are the pool's ends of its control socket and its dump pipe.

    `dump_s` is how long its stacks are waited for before it is killed.
    """

    def __init__(self, slot: int, control: int, dump: int, poller: Poller, timers: Timers, events: list[Event],
                 enforcer: ResourceEnforcer, dump_s: float) -> None:
        self._slot, self._control, self._dump = slot, control, dump
        self._poller, self._timers, self._events = poller, timers, events
        self._enforcer, self._dump_s = enforcer, dump_s
        self._pid, self._pidfd = 0, -1
        self.why: str | None = None  # it is to be killed
        self.has_struck = False
        self._facts: dict[str, Any] | None = None  # of /proc, before the kill
        self._stacks = StackText()
        self._no_stacks = ""  # why there will be none, if there are none
        self._is_asked = False  # stacks are awaited
        self._is_watched = False  # by a user, while the run goes on
        self._is_listening = False

    def spawned(self, pid: int, pidfd: int) -> None:
        """There is a process; kill it if that was asked for already."""
        self._pid, self._pidfd = pid, pidfd
        if self.why is not None:
            self._strike(time.monotonic())

    def send_signal(self, number: signal.Signals) -> bool:
        """Send a signal through the pidfd, which can't mean another process of the same number."""
        if self._pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def kill(self, why: str, *, is_up: bool) -> None:
        """Kill the worker once; `why` is for its post-mortem, `is_up` whether it has said that it is up."""
        self.why = why
        if is_up or (self._pid and answers(self._pid)):  # the latter: a hook of the user's may hang
            self._ask_for_stacks()
        elif self._pid:  # it has no signal handlers yet, nor anything to tell; without a pid, `spawned` will do it
            self._strike(time.monotonic())

    def dump(self) -> None:
        """Report the stacks while the run goes on."""
        self._is_watched = True
        self._ask_for_stacks()

    def finish(self) -> None:
        """Nothing is left of the worker: take what has come of its stacks, and report them where they were awaited."""
        self._listen_for_marks(False)
        self._read_dump()

    def report_watched(self) -> None:
        """Report the stacks to the one that awaits them, if anybody does."""
        if self._is_watched:
            self._is_watched = False
            self._events.append(Dumped(self._slot, self._stacks.text))

    def post_mortem(self, signal_name: str | None, reason: str, *, oom: bool) -> dict[str, Any]:
        """What is known of the end; `reason` stands where the pool has given none, `oom` is a kill by the kernel's."""
        stacks = self._stacks.text
        silence = {"no_stacks": self._no_stacks} if self._no_stacks and not stacks else {}
        return {"why": self.why or reason or "it ended by itself", "stacks": stacks, **silence, "signal": signal_name,
                "sender": sender_of(signal_name, ours=self.has_struck, oom=oom), "proc": self._facts,
                **self._enforcer.facts()}

    def close(self) -> None:
        """Set no timer any more, and close the descriptors."""
        for action in (self._strike, self._have_stacks):
            self._timers.set(action, None)
        for fd in (self._dump, self._control, self._pidfd):
            if fd >= 0:
                os.close(fd)

    # -- stacks ---------------------------------------------------------------------------------------------------

    def _ask_for_stacks(self) -> None:
        patience_s = _DUMP_ALIVE_S
        if self.why is not None:
            hears = answers(self._pid)
            patience_s = self._patience_s() if hears else _DUMP_DEAF_S
            self._no_stacks = f"it did not answer within {patience_s:g} s" if hears else "it blocks or ignores SIGUSR2"
        self._timers.set(self._have_stacks, time.monotonic() + patience_s)
        if self._is_asked:  # for a user
            return
        self._is_asked, self._facts = True, proc_facts(self._pid)
        self._read_dump()
        self._read_marks()
        self._stacks.clear()
        self._listen_for_marks(True)
        self.send_signal(signal.SIGUSR2)
        if self.why is not None:  # one that was told to stop may not have heard of it yet, and seem to run
            self.send_signal(signal.SIGCONT)

    def _patience_s(self) -> float:
        """A run that is out of memory takes more while it is waited for."""
        return min(self._dump_s, _DUMP_HUNGRY_S) if self._enforcer.is_hungry else self._dump_s

    def _have_stacks(self, now_s: float) -> None:
        """The stacks are here, or will not come."""
        self._is_asked = False
        self._timers.set(self._have_stacks, None)
        self._listen_for_marks(False)
        self._read_dump()
        self.report_watched()
        if self.why is not None:
            self._strike(now_s)
        else:
            self._stacks.clear()

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
        if self._is_asked and (signal.SIGUSR2 in self._read_marks() or mask & HANG_UP):
            self._read_dump()
            if self._stacks or mask & HANG_UP:
                self._have_stacks(time.monotonic())
            else:
                self.send_signal(signal.SIGUSR2)

    # -- the kill -------------------------------------------------------------------------------------------------

    def _strike(self, now_s: float) -> None:
        """Stop the worker and everything below it, then kill them; again, if it should not be gone by then."""
        is_first, self.has_struck = not self.has_struck, True
        self._timers.set(self._strike, now_s + _STRIKE_AGAIN_S)
        if self.send_signal(signal.SIGSTOP):
            known = descendants.freeze([self._pid])
            if is_first:
                self._enforcer.final_usage.close(self._pid, known[1:])
            descendants.kill(known)
            self._enforcer.kill()
