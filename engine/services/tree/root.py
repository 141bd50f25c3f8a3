"""The root of the tree: starts the keeper and the pools, restarts them by OTP's rules, ends with them.

Imports no user code and speaks to no Redis: nothing in it can hang or leak.

Duties
1. Start, watch, restart and stop its children as the core decides.
2. Pass signals on: the first SIGTERM or SIGINT drains, a second one stops at once. SIGHUP reloads; that of a terminal
   which was closed drains.
3. Reload: see `generations`. Obey what is asked from afar: see `control`.
4. End a child whose loop has stopped going round: see `hang_watch`.
5. Report to the process that started it that the tree is ready, or why it is not; stop when that process is gone.
6. Report to the service manager how things are, and feed its watchdog.
"""

import contextlib
import faulthandler
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from setproctitle import setproctitle

from engine.adapters.kernel.prctl import adopt_orphans
from engine.adapters.kernel.service_manager import ServiceManager
from engine.adapters.kernel.terminal import Hangup
from engine.config import Settings
from engine.core.tree.restart import RestartBudget
from engine.core.tree.supervision import Action, GiveUp, KillChild, StartChild, StopChild, Supervision
from engine.ports.poller import Poller
from engine.services import redis_log
from engine.services.bootstrap import Bootstrap
from engine.services.tree.announcements import Readiness, ServiceNotices
from engine.services.tree.children import ChildDeaths, ChildProcesses
from engine.services.tree.control import Control
from engine.services.tree.generations import Generations
from engine.services.tree.hang_watch import LOOK_S, HangWatch
from engine.services.tree.services import STOP_S, child_specs, without_generation
from engine.services.tree.signal_queue import SignalQueue

log = logging.getLogger("ganger.execution")


class Root:
    """Runs one tree. `reload` reads the settings anew, and raises a `GangerError` where they are not acceptable."""

    def __init__(self, bootstrap: Bootstrap, reload: Callable[[], Settings], readiness: Readiness,
                 lifeline_fd: int | None, manager: ServiceManager, poller: Poller) -> None:
        self.readiness = readiness
        self.poller = poller
        self.processes = ChildProcesses(self.poller, self._received, self._ended)
        settings = bootstrap.settings
        self.core = Supervision(child_specs(settings, 1),
                                RestartBudget(settings.restart_intensity, settings.restart_period_s))
        self.notices = ServiceNotices(manager, self.core)
        self.deaths = ChildDeaths()
        self.hang_watch = HangWatch(self.processes, self.deaths)
        self.generations = Generations(bootstrap, self.core, self.processes.tell, self._carry_out, reload,
                                       self.notices.reloading)
        self.control = Control(self.generations)
        self.exit_code: int | None = None
        self.refusal: str | None = None  # why a first start came to nothing, at length
        self.hangup = Hangup()
        if lifeline_fd is not None:
            self.poller.register(lifeline_fd, lambda mask: self._lifeline_cut(lifeline_fd))

    def run(self) -> int:
        """Run until the tree is down; return the exit code: 0 after a stop that was asked for, 1 after giving up."""
        setproctitle("ganger: root")
        faulthandler.enable()  # a watchdog's SIGABRT then says where we hung
        adopt_orphans()
        redis_log.forward_log(self._tell_keeper)
        signals = SignalQueue(self.poller, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        self.readiness.expect(self.core.children, self.notices.ready)
        self._carry_out(self.core.start(time.monotonic()))
        while self.exit_code is None:
            self._turn(signals)
        return self.exit_code

    def _turn(self, signals: SignalQueue) -> None:
        now_s = time.monotonic()
        self.poller.wait(max(0.0, min(LOOK_S, self.core.next_deadline_s() - now_s)))
        while signals.pending:
            self._signalled(signals.pending.popleft())
        self._reap_strangers()
        self.hang_watch.end_hung(self._settings.lease_s)
        self._carry_out(self.core.tick(time.monotonic()))
        if not self.generations.is_replacing:
            self.notices.reloaded()
        self.notices.feed(self.processes.is_healthy(now_s), time.monotonic())

    @property
    def _settings(self) -> Settings:
        return self.generations.bootstrap.settings

    # -- what the core asks for -----------------------------------------------------------------------------------

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
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
            self.processes.start(name, self.generations.bootstrap_of(name))
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

    def _received(self, name: str, message: dict[str, Any]) -> None:
        match message:
            case {"is": "asked", "order": dict(command)}:
                self.control.obey(command)
            case {"is": "refused", "reason": str(reason)}:
                self._refused(name, reason)
            case {"is": "waits"} if not self.generations.is_successor(name):
                self.readiness.ready(without_generation(name), {})  # it goes on trying, and the others do without it
            case {"is": "ready"}:
                log.info("ready", extra={"child": name})
                self._tell_of_children()
                failures = message.get("failures") or {}
                self.readiness.ready(without_generation(name), failures)
                self.generations.became_ready(name, failures)

    def _refused(self, name: str, reason: str) -> None:
        """What a child needs is not there. At a first start that ends the tree, at a reload the successor; else what
        runs is better than nothing."""
        if not self.readiness.is_ready:
            self.refusal = reason
            self._carry_out(self.core.give_up(reason.partition("\n")[0], time.monotonic()))
        elif name.startswith("pool ") and self.generations.replaces_living(name):
            log.error("not reloaded", extra={"child": name, "reason": reason})
            self.generations.retire(name)
        else:
            self.processes.tell(name, {"do": "go on"})

    def _ended(self, name: str, code: int) -> None:
        log.log(logging.INFO if code == 0 else logging.ERROR, "ended", extra={"child": name, "exit_code": code})
        self.deaths.ended(name, code)
        self._carry_out(self.core.exited(name, code == 0, time.monotonic()))
        self._tell_of_children()
        self.generations.ended(name)

    def _signalled(self, number: int) -> None:
        if number != signal.SIGHUP:
            self._stop()
        elif not self.hangup.has_come():
            self.generations.reload()
        elif not self.hangup.is_ignored and not self.core.stopping:  # a shell sends a second one
            log.info("the terminal was closed")
            self._stop()

    def _stop(self) -> None:
        """Drain; if we are draining already, stop at once."""
        now_s = time.monotonic()
        if not self.core.stopping:
            log.info("draining; once more to stop at once")
            self.notices.stopping("draining", self._settings.shutdown_grace_s + 3 * STOP_S)
            self._carry_out(self.core.stop(now_s))
            return
        log.info("stopping at once")
        for name in list(self.processes.running):
            self.processes.tell(name, {"do": "stop"})
            child = self.core.children.get(name)
            if child is not None:
                child.deadline_s = min(child.deadline_s, now_s + STOP_S)

    def _lifeline_cut(self, fd: int) -> None:
        """The process that started us is gone: nobody is waiting for a drain."""
        self.poller.unregister(fd)
        self._stop()
        self._stop()

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
        keeper = next((name for name in self.processes.running if without_generation(name) == "keeper"), None)
        if keeper is not None:
            self.processes.tell(keeper, message)
