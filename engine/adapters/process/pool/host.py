"""The process side of a pool: keeps a fork server, and a link to each worker. See `ports.Host` for what it promises.

Duties
1. Pass on: messages to workers, what they reply, log and report, in order.
2. See a kill through: stacks, stop, kill, and the fork server's word that nothing is left.
3. When the fork server is lost, see that everything below it is gone before anybody hears of it.
"""

import logging
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from engine.adapters.kernel import affinity, prctl
from engine.adapters.kernel.descendants import can_look
from engine.adapters.kernel.ulimits import FILES_OF_A_WORKER, has_room
from engine.adapters.process.pool import suspension
from engine.adapters.process.pool.forkserver_client import ForkServerClient
from engine.adapters.process.pool.orphan_cleanup import OrphanCleanup
from engine.adapters.process.pool.timers import Timers
from engine.adapters.process.pool.worker_link import WorkerLink
from engine.adapters.process.resources import cgroup
from engine.adapters.process.resources.cgroup import WorkerCgroups
from engine.adapters.process.resources.enforcement import ResourceEnforcer
from engine.adapters.process.resources.final_usage import FinalUsage, UsagePage
from engine.adapters.process.resources.oom import OomKiller
from engine.core.pool.cpu_shares import Shares
from engine.core.task.limits import Limits
from engine.core.worker import frames
from engine.ports.host import Dumped, Event, Exited, HostSettings, ServerLost, ServerReady
from engine.ports.poller import Poller
from engine.tasks.import_guard import TREE_MARK

_ROUND_S = 0.002
_ROUNDS_MAX = 1500
_CLEAN_ROUNDS = 3  # in a row: the kernel's list of children may leave one out while others go (man 5 proc)
_STOP_S = 1.0
_REFUSED_PAUSE_S, _REFUSED_PAUSE_S_MAX = 0.1, 5.0
_FILES_TO_SPAWN = FILES_OF_A_WORKER + 7  # its own, and for a moment those that the worker is given

log = logging.getLogger("ganger.errors")


class ProcessHost:
    """Fulfils `ports.Host`. Makes this process a subreaper."""

    server = ForkServerClient

    def __init__(self, settings: HostSettings, poller: Poller) -> None:
        self._settings, self._poller = settings, poller
        self._mark = secrets.token_hex(8)
        self._events: list[Event] = []
        self._links: dict[int, WorkerLink] = {}  # by slot
        self._send_to: dict[int, Callable[[bytes], None]] = {}  # the hot path, found in one step
        self._by_spawn: dict[int, WorkerLink] = {}
        self._spawns = 0
        self._server: ForkServerClient | None = None
        self._orphan_cleanup: OrphanCleanup | None = None
        self._page: UsagePage | None = None
        self._shares = Shares(settings.shares) if settings.shares else None
        self._timers = Timers()
        self._oom_killer, self._groups = OomKiller(), WorkerCgroups(cgroup.base())
        self._rounds = self._clean_rounds = self._refusals = 0

    def start(self) -> None:
        assert self._server is None, "the fork server runs already"
        prctl.adopt_orphans()
        self._refusals = 0
        self._start_server(time.monotonic())

    def _start_server(self, now_s: float) -> None:
        """Again after a pause, which doubles, for as long as the kernel has no process or descriptor to give."""
        self._timers.set(self._start_server, None)
        try:
            self._make_server()
        except OSError as error:
            log.error("the fork server could not be started; it is tried again", extra={"reason": str(error)})
            pause_s = min(_REFUSED_PAUSE_S * 2.0 ** min(self._refusals, 30), _REFUSED_PAUSE_S_MAX)
            self._refusals += 1
            self._timers.set(self._start_server, now_s + pause_s)

    def _make_server(self) -> None:
        if self._page is None:
            self._page = UsagePage()
        self._server = self.server(self._settings, {TREE_MARK: self._mark}, self._page, self._poller, self._reported,
                                   self._lost)

    def stop(self) -> None:
        self._stop_server()
        self._oom_killer.close()
        if self._page is not None:
            self._page.close()
            self._page = None

    def _stop_server(self) -> None:
        server = self._server
        self._timers.set(self._start_server, None)
        if server is None:
            return
        if not server.is_ready:  # it may hang in an import, and has no workers yet
            server.kill()
        server.close()
        try:
            server.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.process.wait(_STOP_S)
        if self._orphan_cleanup is None:
            self._lost()
        while self._orphan_cleanup is not None:
            self._clean_up(time.monotonic())
            if self._orphan_cleanup is not None:
                time.sleep(_ROUND_S)

    # -- workers --------------------------------------------------------------------------------------------------

    def spawn(self, slot: int) -> None:
        assert slot not in self._links, f"slot {slot} has a worker"
        if not has_room(_FILES_TO_SPAWN):
            self._refuse(slot, "too many open files (ulimit -n)")
            return
        self._spawns += 1
        enforcer = ResourceEnforcer(slot, self._timers, self._events, self._groups, self._oom_killer,
                                    FinalUsage(self._page, slot))
        link = WorkerLink(slot, self._poller, self._timers, self._events, self._settings, enforcer)
        self._links[slot] = self._by_spawn[self._spawns] = link
        self._send_to[slot] = link.send
        if self._server is None or self._orphan_cleanup is not None:
            for fd in link.handed_over:
                os.close(fd)
            self._bury(self._spawns, None, {}, "there is no fork server", stranded=True)
        else:
            cores = self._shares.take(slot) if self._shares is not None else []
            self._server.order({"spawn": self._spawns, "slot": slot, "cores": cores}, link.handed_over)

    def send(self, slot: int, message: bytes) -> None:
        self._send_to[slot](message)

    def watch(self, slot: int, limits: Limits) -> None:
        self._links[slot].enforcer.watch(limits)

    def unwatch(self, slot: int) -> None:
        if slot in self._links:  # it may have died since it answered
            self._links[slot].enforcer.unwatch()

    def take_back(self, slot: int) -> list[bytes]:
        return self._links[slot].take_back() if slot in self._links else []

    def interrupt(self, slot: int, token: int, reason: frames.InterruptReason) -> None:
        if slot in self._links:
            self._links[slot].interrupt(token, reason)

    def suspend(self, slot: int) -> None:
        if slot in self._links:
            self._links[slot].suspend()

    def resume(self, slot: int, token: int | None, suspended_s: float) -> None:
        if slot in self._links:
            self._links[slot].resume(token, suspended_s)

    def memory_bytes(self, slot: int) -> int:
        return suspension.own_bytes(self._links[slot].pid) if slot in self._links else 0

    def quit(self, slot: int) -> None:
        if slot in self._links:
            self._links[slot].quit()

    def kill(self, slot: int, why: str) -> None:
        if slot in self._links:  # else these were its last words: it is gone already
            self._links[slot].kill(why)

    def dump(self, slot: int) -> None:
        if slot in self._links:
            self._links[slot].dump()
        else:
            self._events.append(Dumped(slot, ""))

    def pid(self, slot: int) -> int | None:
        link = self._links.get(slot)
        return link.pid or None if link is not None else None

    def processes(self) -> list[tuple[int, int]]:
        known = [] if self._server is None else [self._server.identity]
        known += [link.identity for link in self._links.values() if link.pid]
        return [(pid, born_at) for pid, born_at in known if born_at is not None]

    # -- the loop -------------------------------------------------------------------------------------------------

    def next_deadline_s(self) -> float | None:
        return 0.0 if self._events else self._timers.next_s()  # some answers need no descriptor to be ready

    def tick(self, now_s: float) -> None:
        self._timers.run_due(now_s)

    def events(self) -> list[Event]:
        events = self._events[:]
        self._events.clear()
        return events

    # -- the fork server ------------------------------------------------------------------------------------------

    def _reported(self, message: dict[str, Any], fds: list[int]) -> None:
        """A message of the fork server."""
        if "ready" in message:
            assert self._server is not None
            self._server.is_ready = True
            self._events.append(ServerReady(**message["ready"]))
        elif "spawned" in message:
            self._spawned(message["spawned"], message["pid"], fds)
        elif "refused" in message:
            reason = f"no process could be forked: {message['reason']}"
            log.error("a worker could not be started; it is tried again", extra={"reason": reason})
            self._bury(message["refused"], None, {}, reason, refused=True)
        else:
            usage = {"cpu_s": message["cpu_s"], "peak_rss_bytes": message["peak_rss_bytes"]}
            self._bury(message["exited"], message["status"], usage)

    def _spawned(self, spawn: int, pid: int, fds: list[int]) -> None:
        """Without its descriptor, which the kernel leaves out where there is no room, a worker cannot be looked after.
        """
        if fds:
            self._by_spawn[spawn].spawned(pid, fds[0])
        else:
            log.error("a worker is ended: the pool has too many open files (ulimit -n)", extra={"pid": pid})
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _bury(self, spawn: int, status: int | None, usage: dict[str, Any], reason: str = "", *,
              stranded: bool = False, refused: bool = False) -> None:
        link = self._by_spawn.pop(spawn)
        del self._links[link.slot], self._send_to[link.slot]
        link.exited(status, usage, reason, stranded=stranded, refused=refused)
        if self._shares is not None:
            self._move(self._shares.give_back(link.slot))

    def _move(self, moved: tuple[int, list[int]] | None) -> None:
        """A worker gets other cores, so that none are without one."""
        if moved is not None and (pid := self.pid(moved[0])):
            affinity.move(pid, moved[1])

    def _refuse(self, slot: int, reason: str) -> None:
        """There is nothing to start a worker with."""
        log.error("a worker could not be started; it is tried again", extra={"slot": slot, "reason": reason})
        self._events.append(Exited(slot, 0, None, None, {}, {"why": reason}, refused=True))

    def _lost(self) -> None:
        """The fork server is gone; its workers are going. End what is left of them."""
        assert self._server is not None
        pids = {link.pid for link in self._links.values() if link.pid}
        self._orphan_cleanup = OrphanCleanup(self._mark, self._server.process.pid, pids, self._reaped)
        self._rounds = self._clean_rounds = 0
        self._timers.set(self._clean_up, 0.0)

    def _reaped(self, pid: int, status: int, cpu_s: float, peak_rss_bytes: int) -> None:
        for spawn, link in list(self._by_spawn.items()):
            if link.pid == pid:
                self._bury(spawn, status, {"cpu_s": cpu_s, "peak_rss_bytes": peak_rss_bytes},
                           "it died with the fork server", stranded=True)

    def _clean_up(self, now_s: float) -> None:
        """One round after the loss; reports it when nothing is left."""
        assert self._orphan_cleanup is not None
        assert self._server is not None
        if not can_look():
            self._timers.set(self._clean_up, now_s + _REFUSED_PAUSE_S)
            return
        self._timers.set(self._clean_up, now_s + _ROUND_S)
        self._rounds += 1
        code = self._server.process.poll()
        self._clean_rounds = self._clean_rounds + 1 if self._orphan_cleanup.round() and code is not None else 0
        if self._clean_rounds < _CLEAN_ROUNDS and self._rounds < _ROUNDS_MAX:
            return
        for spawn in list(self._by_spawn):
            self._bury(spawn, None, {}, "it died with the fork server", stranded=True)
        self._server = self._orphan_cleanup = None
        self._timers.set(self._clean_up, None)
        self._events.append(ServerLost(_how(code)))


def _how(code: int | None) -> str:
    if code is None:
        return "the fork server does not answer"
    return f"the fork server was killed by signal {-code}" if code < 0 else f"the fork server exited with code {code}"
