"""The root of the tree: starts the keeper and the pools, restarts them by OTP's rules, ends with them.

Imports no user code and speaks to no Redis: nothing in it can hang or leak.

Duties
1. Start, watch, restart and stop its children as the core decides.
2. Pass signals on: the first SIGTERM or SIGINT drains, a second one stops at once. SIGHUP reloads; that of a terminal
   which was closed drains.
3. Reload: start successors of the pools with new settings and code, and retire the old ones when these are ready.
4. End a child whose loop has stopped going round.
5. Tell whoever started it that the tree is ready, or why it is not; stop when that one is gone.
6. Tell the service manager how things are, and feed its watchdog.
"""

import contextlib
import faulthandler
import logging
import os
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from setproctitle import setproctitle

from engine.adapters.hangup import Hangup
from engine.adapters.poller import EpollPoller
from engine.adapters.process.kernel.prctl import adopt_orphans
from engine.adapters.service_manager import ServiceManager
from engine.config import Settings
from engine.core.tree.restart import RestartBudget
from engine.core.tree.supervision import (
    ChildSpec,
    Command,
    GiveUp,
    KillChild,
    Restart,
    StartChild,
    StopChild,
    Supervision,
)
from engine.errors import GangerError
from engine.services.tree import control, redis_log
from engine.services.tree.bootstrap import Bootstrap
from engine.services.tree.child_deaths import ChildDeaths
from engine.services.tree.children import ChildProcess, ChildProcesses
from engine.services.tree.readiness import Readiness
from engine.services.tree.service_notices import ServiceNotices

HANG_S = 60.0  # a child that has said nothing for so long is ended
LEASE_MARGIN_S = 4.0  # a pool that hangs is ended so long before its lease can be over
SILENCE_S_MIN = 4.0  # a healthy pool says something every 2 s
STOP_S = 5.0  # for a child that was told to stop at once
_PATIENCE_S = 1.0

log = logging.getLogger("ganger.execution")


class Root:
    """`reload` reads the settings anew, and raises a GangerError where they are not acceptable."""

    def __init__(self, bootstrap: Bootstrap, reload: Callable[[], Settings], readiness: Readiness,
                 lifeline_fd: int | None, manager: ServiceManager) -> None:
        self.bootstrap, self.reload, self.readiness = bootstrap, reload, readiness
        self.poller = EpollPoller()
        self.processes = ChildProcesses(self.poller, self._heard, self._ended)
        settings = bootstrap.settings
        self.core = Supervision(self._specs(1), RestartBudget(settings.restart_intensity, settings.restart_period_s))
        self.notices = ServiceNotices(manager, self.core)
        self.deaths = ChildDeaths()
        self.generation = 1
        self.bootstraps: dict[str, Bootstrap] = dict.fromkeys(self.core.children, bootstrap)
        self.retiring: dict[str, str] = {}  # successor -> the child that goes when it is ready
        self.workers: dict[str, int | str] = {}  # pool -> how many were asked for since the start, or "auto"
        self.obeyed: deque[str] = deque(maxlen=control.OBEYED_MAX)  # names of orders
        self.exit_code: int | None = None
        self.refusal: str | None = None  # why a first start came to nothing, at length
        self._signals: list[int] = []
        self.hangup = Hangup()
        self._looked_s = time.monotonic()
        if lifeline_fd is not None:
            self.poller.register(lifeline_fd, lambda mask: self._lifeline_cut(lifeline_fd))

    def run(self) -> int:
        """Returns the exit code: 0 after a stop that was asked for, 1 after giving up."""
        setproctitle("ganger: root")
        faulthandler.enable()  # a watchdog's SIGABRT then says where we hung
        adopt_orphans()
        redis_log.forward_log(self._tell_keeper)
        self._wake_on_signals()
        self.readiness.expect(self.core.children, self.notices.ready)
        self._carry_out(self.core.start(time.monotonic()))
        while self.exit_code is None:
            self._turn()
        return self.exit_code

    def _turn(self) -> None:
        now_s = time.monotonic()
        self.poller.wait(max(0.0, min(_PATIENCE_S, self.core.next_deadline_s() - now_s)))
        while self._signals:
            self._signalled(self._signals.pop(0))
        self._reap_strangers()
        self._end_hung()
        self._carry_out(self.core.tick(time.monotonic()))
        if not self.retiring:
            self.notices.reloaded()
        self.notices.feed(self.processes.is_healthy(now_s), time.monotonic())

    # -- what the core asks for -----------------------------------------------------------------------------------

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case StartChild(name):
                    self._start(name)
                case StopChild(name):
                    self.processes.tell(name, {"do": "drain"})
                case KillChild(name):
                    log.warning("killing", extra={"child": name})
                    self.processes.kill(name)
                case GiveUp(reason):
                    self._give_up(reason)

    def _start(self, name: str) -> None:
        log.info("starting", extra={"child": name})
        try:
            self.processes.start(name, self.bootstraps[name])
        except (OSError, subprocess.SubprocessError) as error:
            log.error("a child could not be started; it is tried again", extra={"child": name, "reason": str(error)})
            self._carry_out(self.core.not_started(name, time.monotonic()))
        else:
            self.core.has_started(name)

    def _give_up(self, reason: str | None) -> None:
        if reason is not None:
            log.error("giving up", extra={"reason": reason})
            self.readiness.fail(self.refusal or reason)
            self.notices.stopping(reason, STOP_S)
        self.exit_code = 0 if reason is None else 1

    # -- what happens ---------------------------------------------------------------------------------------------

    def _heard(self, name: str, message: dict[str, Any]) -> None:
        if message.get("is") == "asked":
            control.obey(self, message["order"])
        if message.get("is") == "refused":
            self._refused(name, message["reason"])
        if message.get("is") == "waits" and name not in self.retiring:
            self.readiness.ready(_kin(name), {})  # it goes on trying, and the others do without it
        if message.get("is") != "ready":
            return
        log.info("ready", extra={"child": name})
        self._tell_of_children()
        self.readiness.ready(_kin(name), message.get("failures") or {})
        old = self.retiring.pop(name, None)
        if old is not None:
            self._succeed(name, old, message.get("failures") or {})

    def _refused(self, name: str, reason: str) -> None:
        """What a child needs is not there. At a first start that ends the tree, at a reload the successor; else what
        runs is better than nothing."""
        now_s = time.monotonic()
        if not self.readiness.is_ready:
            self.refusal = reason
            self._carry_out(self.core.give_up(reason.partition("\n")[0], now_s))
        elif name.startswith("pool ") and self.retiring.get(name) in self.core.children:
            log.error("not reloaded", extra={"child": name, "reason": reason})
            self.retire(name, now_s)
        else:
            self.processes.tell(name, {"do": "go on"})

    def _succeed(self, new: str, old: str, failures: dict[str, str]) -> None:
        """The successor takes over, unless it cannot import what its predecessor, if that is still there, could."""
        if failures and old in self.core.children:
            log.error("not reloaded: handler modules cannot be imported", extra={"child": new, "failures": failures})
            self.retire(new, time.monotonic())
            return
        child = self.core.children[new]
        child.spec = replace(child.spec, restart=Restart.PERMANENT)
        if old in self.core.children:
            self.retire(old, time.monotonic())

    def _ended(self, name: str, code: int) -> None:
        log.log(logging.INFO if code == 0 else logging.ERROR, "ended", extra={"child": name, "exit_code": code})
        self.deaths.ended(name, code)
        now_s = time.monotonic()
        self._carry_out(self.core.exited(name, code == 0, now_s))
        self._tell_of_children()
        if self.retiring.pop(name, None) is not None:
            log.error("not reloaded: the successor ended before it was ready", extra={"child": name})
            self.retire(name, now_s)

    def _signalled(self, number: int) -> None:
        if number != signal.SIGHUP:
            self._stop()
        elif not self.hangup.has_come():
            self._reload()
        elif not self.hangup.is_ignored and not self.core.stopping:  # a shell sends a second one
            log.info("the terminal was closed")
            self._stop()

    def _stop(self) -> None:
        """Drain; if we are draining already, stop at once."""
        now_s = time.monotonic()
        if not self.core.stopping:
            log.info("draining; once more to stop at once")
            self.notices.stopping("draining", self.bootstrap.settings.shutdown_grace_s + 3 * STOP_S)
            self._carry_out(self.core.stop(now_s))
            return
        log.info("stopping at once")
        for name in list(self.processes.running):
            self.processes.tell(name, {"do": "stop"})
            child = self.core.children.get(name)
            if child is not None:
                child.deadline_s = min(child.deadline_s, now_s + STOP_S)

    def _lifeline_cut(self, fd: int) -> None:
        """Whoever started us is gone: nobody is waiting for a drain."""
        self.poller.unregister(fd)
        self._stop()
        self._stop()

    def _reload(self, kind: str = "") -> None:
        """New settings and code in new children beside the old ones; no task waits or is lost meanwhile."""
        if not self.core.stopping:
            self.notices.reloading()
        try:
            settings = self.reload()
        except GangerError as error:
            log.error("not reloaded: the settings are not acceptable", extra={"reason": str(error)})
            return
        if self.core.stopping:
            return
        self.generation += 1
        settings = control.scaled(settings, self.workers)
        settings = settings.model_copy(update={"redis_url": self.bootstrap.settings.redis_url})
        self.bootstrap = self.bootstrap.model_copy(update={"settings": settings})
        logging.getLogger("ganger").setLevel(settings.log_level)
        log.info("reloading", extra={"generation": self.generation})
        for name in [name for name in self.retiring if name.startswith(kind)]:  # not ready, and out of date already
            self.retire(name, time.monotonic())
        old = {_kin(name): name for name, child in self.core.children.items()
               if child.wanted and name.startswith(kind)}
        for new in self._specs(self.generation):
            if not new.name.startswith(kind):
                continue
            spec = new
            self.bootstraps[spec.name] = self.bootstrap
            predecessor = old.pop(_kin(spec.name), None)
            if predecessor is not None:
                self.retiring[spec.name] = predecessor
                spec = replace(spec, restart=Restart.TEMPORARY)
            self._carry_out(self.core.add(spec, time.monotonic()))
        for name in old.values():
            self.retire(name, time.monotonic())

    def pools(self) -> list[str]:
        """The children that are pools and are to stay."""
        return [name for name, child in self.core.children.items() if name.startswith("pool ") and child.wanted]

    def retire(self, name: str, now_s: float) -> None:
        """Let a child end for good."""
        self.retiring.pop(name, None)
        self._carry_out(self.core.retire(name, now_s))

    def start_pools(self) -> None:
        """Start those that were ended by request, as they were."""
        kin = {_kin(name) for name in self.pools()}
        self.generation += 1
        for spec in self._specs(self.generation):
            if spec.name.startswith("pool ") and _kin(spec.name) not in kin and not self.core.stopping:
                self.bootstraps[spec.name] = self.bootstrap
                self._carry_out(self.core.add(spec, time.monotonic()))

    def scale(self, pool: str, workers: int | str) -> None:
        """Tell a pool how many workers to have, and those that will come after it."""
        self.workers[pool] = workers
        settings = control.scaled(self.bootstrap.settings, self.workers)
        self.bootstrap = self.bootstrap.model_copy(update={"settings": settings})
        for name in self.pools():
            if _kin(name) == f"pool {pool}":
                self.bootstraps[name] = self.bootstrap
                self.processes.tell(name, {"do": "scale", "workers": workers})

    def reload_pools(self) -> None:
        """As at a SIGHUP, but keep whoever else there is."""
        self._reload("pool ")

    def _end_hung(self) -> None:
        now_s = time.monotonic()
        stood_still = now_s - self._looked_s > 3 * _PATIENCE_S  # so did the children, perhaps: hear them first
        self._looked_s = now_s
        for child in list(self.processes.running.values()):
            if stood_still:
                child.well_s = now_s
            if now_s - child.well_s > self._silence_s(child):
                log.error("a child hangs", extra={"child": child.name, "silent_s": round(now_s - child.well_s)})
                child.well_s = now_s
                self.deaths.hangs(child.name)
                self.processes.kill(child.name)

    def _silence_s(self, child: ChildProcess) -> float:
        """How long a child may say nothing. A pool that is stopped cannot fence itself: its end is the end of its runs,
        which must come before its lease is over and others start them."""
        if not child.has_spoken or _kin(child.name) == "keeper":
            return HANG_S
        return min(HANG_S, max(self.bootstrap.settings.lease_s - LEASE_MARGIN_S, SILENCE_S_MIN))

    def _reap_strangers(self) -> None:
        """Descendants of a child that died come to us, the nearest subreaper; they were told to die with it."""
        ours = {child.process.pid for child in self.processes.running.values()}
        with contextlib.suppress(ChildProcessError):
            while (info := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if info.si_pid in ours:
                    return  # the poller tells us of these
                os.waitpid(info.si_pid, 0)

    def _tell_of_children(self) -> None:
        self._tell_keeper(self.deaths.message(self.core.children))

    def _tell_keeper(self, message: dict[str, Any]) -> None:
        keeper = next((name for name in self.processes.running if _kin(name) == "keeper"), None)
        if keeper is not None:
            self.processes.tell(keeper, message)

    # -- set-up ---------------------------------------------------------------------------------------------------

    def _specs(self, generation: int) -> list[ChildSpec]:
        suffix = "" if generation == 1 else f" {generation}"
        shutdown_s = self.bootstrap.settings.shutdown_grace_s + STOP_S
        pools = [ChildSpec(f"pool {name}{suffix}", shutdown_s=shutdown_s) for name in self.bootstrap.settings.pools]
        api = [ChildSpec(f"api{suffix}", shutdown_s=2 * STOP_S)] if self.bootstrap.settings.api else []
        return [ChildSpec(f"keeper{suffix}", shutdown_s=STOP_S), *pools, *api]

    def _wake_on_signals(self) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self._wakeup = ours, theirs
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self.poller.register(ours.fileno(), self._drain_wakeups)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: self._signals.append(number))

    def _drain_wakeups(self, mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup[0].recv(4096)


def _kin(name: str) -> str:
    """What a child and its successor have in common: the name without the number of the generation."""
    kind, _, rest = name.partition(" ")
    return kind if kind in ("keeper", "api") else f"{kind} {rest.partition(' ')[0]}"


