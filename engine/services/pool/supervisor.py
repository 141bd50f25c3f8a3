"""The supervisor of a pool: Redis in, pipes out; it owns the leases and deadlines of its runs.

Each turn
1. wait until something happens or a deadline is near;
2. tell the core what the workers, Redis and the root said;
3. carry out what the core asks for;
4. let Redis know, and ask it for more.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import orjson

from engine.adapters.clock import RedisClock
from engine.core import frames
from engine.core.commands import (
    Command,
    Halt,
    Interrupt,
    Kill,
    Quit,
    Send,
    Settle,
    Spawn,
    Stopped,
    TakeBack,
    Unwatch,
    Watch,
)
from engine.core.dispatch import Dispatch
from engine.core.lifecycle import Move
from engine.core.outcome import Outcome
from engine.core.retry import Payer, Verdict
from engine.core.slot import Run
from engine.ports import (
    Booted,
    Dumped,
    Exceeded,
    Exited,
    Grown,
    Handed,
    Host,
    Joined,
    Logged,
    NotHeard,
    Parted,
    Poller,
    Progressed,
    Recovered,
    Refused,
    Replied,
    Rung,
    ServerLost,
    ServerReady,
    Settlement,
    Spilled,
    Stepped,
    SupervisorBroker,
)
from engine.services.pool import deaths, report
from engine.services.pool.claims import Claims
from engine.services.pool.stepping import Stepping
from engine.services.pool.telling import Telling
from engine.services.pool.terms import PoolTerms

UNREADABLE = Verdict(Move.FAIL, Payer.NOBODY)
NOT_YET = Verdict(Move.RETRY, Payer.NOBODY, pause_s=5.0)  # longer than a run that is being ended takes to end
PAUSE_S_MAX = 3_155_760_000.0  # a hundred years, as for every option in seconds
RUN_DIGITS_MAX = 15  # what a life line may hold
LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})

log = logging.getLogger("ganger.execution")


class Pool:
    """Everything that it uses is given; `tell_root` sends a message to its parent."""

    def __init__(self, terms: PoolTerms, core: Dispatch, host: Host, broker: SupervisorBroker, poller: Poller,
                 clock: RedisClock, tell_root: Callable[[dict[str, Any]], None], *,
                 monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.terms, self.core, self.host, self.broker, self.poller = terms, core, host, broker, poller
        self.clock, self.tell_root, self.monotonic_s = clock, tell_root, monotonic_s
        self.claims = Claims(terms.policy)
        self.stepping = Stepping(terms, broker)
        self.telling = Telling(monotonic_s)
        self.handlers: list[dict[str, Any]] = []
        self.failures: dict[str, str] = {}
        self.halted: str | None = None
        self.started_ms = clock.now_ms()
        self._said_ready = False
        self._recovers = 0  # under way
        self._wishes: list[Callable[[float], None]] = []  # to drain, to stop
        self._offset_ms = clock.offset_ms  # of the clock that what waits for Redis was dated by
        self._is_unheard = False  # Redis refused to hear what we run
        self._do: dict[type[Any], Callable[[Any], None]] = {
            Send: self._send, Settle: self._settle, TakeBack: self._take_back, Kill: self._kill, Halt: self._halt,
            Spawn: lambda command: self.host.spawn(command.slot), Quit: lambda command: self.host.quit(command.slot),
            Stopped: self._stopped,
            Watch: lambda command: self.host.watch(command.slot, command.token, command.limits),
            Unwatch: lambda command: self.host.unwatch(command.slot),
            Interrupt: lambda command: self.host.interrupt(command.slot, command.token,
                                                           b"C" if command.cancel else b"S"),
        }
        self._on: dict[type[Any], Callable[[Any, float], None]] = {
            Replied: self._replied, Exited: self._exited, Booted: self._booted, Progressed: self._progressed,
            Exceeded: self._exceeded, Grown: self._grown, Logged: self._logged, Spilled: self._spilled,
            Dumped: self._dumped, ServerReady: self._server_ready,
            ServerLost: self._server_lost, Stepped: self._stepped, Refused: self._refused, Rung: self._rung,
            Joined: self._joined, Parted: self._parted, Recovered: self._recovered, NotHeard: self._not_heard,
            Handed: self._handed,
        }

    # -- the loop -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.host.start()

    def turn(self, patience_s: float) -> None:
        """One round; waits for `patience_s` at most."""
        self.poller.wait(min(patience_s, self._idle_s()))
        now_s = self.monotonic_s()
        self.host.tick(now_s)
        self.broker.tick(now_s)
        for event in self.host.events():
            self._on[type(event)](event, now_s)
        for answer in self.broker.events():
            self._on[type(answer)](answer, now_s)
        if self.stepping.must_fence(now_s):
            self._fence()
        while self._wishes:
            self._wishes.pop(0)(now_s)
        self.core.fill(now_s)
        self.core.tick(now_s)
        self.telling.tick(now_s)
        self._carry_out()
        self.stepping.step(self.core.room(now_s), len(self.core.runs), lambda: self._report(now_s), now_s)

    @property
    def is_done(self) -> bool:
        """Drained: no run, no process, and nothing left to tell Redis."""
        return self.core.draining and self.core.is_empty and not self.stepping.outbox and \
            not self.stepping.is_under_way

    def drain(self) -> None:
        """In this turn or the next, after what the workers said: they may be asked for before we know how it goes."""
        self._wishes.append(lambda now_s: self.core.drain(now_s, self.terms.grace_s))

    def stop(self) -> None:
        """As `drain`."""
        self._wishes.append(lambda now_s: self.core.stop())

    def _idle_s(self) -> float:
        """How long nothing needs to be done, if nothing happens."""
        if self.core.commands or self._wishes:
            return 0.0
        wake_s = min(self.core.next_deadline_s(), self.broker.next_deadline_s(), self.stepping.next_deadline_s(),
                     self.host.next_deadline_s() or float("inf"))
        return max(0.0, wake_s - self.monotonic_s())

    def _carry_out(self) -> None:
        """A command may have the core ask for more; each such round has fewer runs left to ask about."""
        commands = self.core.commands
        while commands:
            batch: list[Command] = commands[:]
            commands.clear()
            for command in batch:
                self._do[type(command)](command)

    # -- what the core asks for -----------------------------------------------------------------------------------

    def _send(self, command: Send) -> None:
        run = command.run
        self.host.send(command.slot, frames.task(run.token, run.number, run.attempts, self.clock.offset_ms,
                                                 run.task_id, run.record))

    def _settle(self, command: Settle) -> None:
        run, verdict, outcome = command
        if isinstance(outcome, Outcome):
            outcome = outcome.encode()
        self.telling.ended(run, verdict, outcome)
        self.stepping.outbox.append(Settlement(run.task_id, run.number, verdict.words, self._at(run, verdict), outcome))

    def _at(self, run: Run, verdict: Verdict) -> int | str:
        move = verdict.move
        if move is Move.RELEASE:
            return run.queue
        if move is Move.COMPLETE:
            wait_s = run.policy.result_ttl_s
        else:
            wait_s = verdict.pause_s if move is Move.RETRY else run.policy.failed_ttl_s
        return self.clock.now_ms() + int(wait_s * 1000)

    def _take_back(self, command: TakeBack) -> None:
        tokens = [frames.token_of(message) for message in self.host.take_back(command.slot)]
        self.core.taken_back(command.slot, tokens, self.monotonic_s())

    def _kill(self, command: Kill) -> None:
        doom = self.core.slots[command.slot].doom
        self.host.kill(command.slot, doom or "stopped")

    def _halt(self, command: Halt) -> None:
        log.error("the pool gives up", extra={"reason": command.reason})
        self.halted = command.reason
        self.core.stop()

    def _stopped(self, command: Stopped) -> None:
        log.error("a handler keeps costing workers, and is stopped for a while", extra={
            "task_type": command.task_type, "pause_s": command.pause_s, "deaths": command.deaths})
        self.stepping.report_soon()

    # -- what the workers say -------------------------------------------------------------------------------------

    def _replied(self, event: Replied, now_s: float) -> None:
        slot, token, verdict, wall_us, outcome = event
        after_s = None
        if verdict != frames.COMPLETED:
            if verdict not in frames.VERDICTS:
                self.host.kill(slot, f"it does not speak our language: a verdict of {verdict!r}")
                return
            after_s = _pause_asked(outcome) if verdict == frames.RETRY else None
        self.core.replied(slot, token, verdict, wall_us / 1e6, outcome, now_s, after_s)

    def _exited(self, event: Exited, now_s: float) -> None:
        unread = [frames.token_of(message) for message in event.unread]
        slot = self.core.slots[event.slot]
        since_s = slot.since_s
        log.info("a worker has ended", extra={"worker": f"{self.terms.supervisor}/{event.slot}", "pid": event.pid,
                                              "exit_code": event.exitcode, "signal": event.signal})
        self.core.exited(event.slot, lambda run: self._death(run, event, since_s, now_s), unread, now_s,
                         stranded=event.stranded)

    def _death(self, run: Run, event: Exited, since_s: float, now_s: float) -> Outcome:
        return deaths.outcome(run, event, worker=f"{self.terms.supervisor}/{event.slot}", wall_s=now_s - since_s,
                              now_ms=self.clock.now_ms())

    def _exceeded(self, event: Exceeded, now_s: float) -> None:
        self.core.exceeded(event.slot, event.token, event.cause, event.message)

    def _grown(self, event: Grown, now_s: float) -> None:
        log.info("a worker has grown, and is replaced", extra={
            "worker": f"{self.terms.supervisor}/{event.slot}", "grown_bytes": event.bytes})
        self.core.replace(event.slot, now_s)

    def _booted(self, event: Booted, now_s: float) -> None:
        self.core.booted(event.slot, event.pid, now_s)
        self.stepping.ring(mail=False)
        self._say_ready()

    def _progressed(self, event: Progressed, now_s: float) -> None:
        run = self._running(event.slot)
        if run is not None and run.token == event.token and self.broker.up:
            self.broker.progress(run.task_id, event.body)

    def _logged(self, event: Logged, now_s: float) -> None:
        run = self._running(event.slot)
        if run is not None and run.token == event.token:
            self.stepping.rows.append((run.task_id, event.row))
            self.stepping.ring(mail=True)

    def _spilled(self, event: Spilled, now_s: float) -> None:
        run = self._running(event.slot)
        if run is None:
            return
        text = event.text
        if event.dropped_bytes:
            text += f"… and {event.dropped_bytes} bytes more, dropped"
        row = {"at_ms": self.clock.now_ms(), "run": run.number, "stream": "stdout", "level": None, "text": text}
        self.stepping.rows.append((run.task_id, orjson.dumps(row)))
        self.stepping.ring(mail=True)

    def _dumped(self, event: Dumped, now_s: float) -> None:
        log.info("stacks of a live worker", extra={
            "worker": f"{self.terms.supervisor}/{event.slot}", "slot": event.slot, "stacks": event.text})

    def _server_ready(self, event: ServerReady, now_s: float) -> None:
        self.handlers, self.failures = event.handlers, event.failures
        self.claims.learn(event.handlers)
        for module, text in event.failures.items():
            log.error("a handler module cannot be imported", extra={"handler_module": module, "traceback": text})
        names = " ".join(sorted(told["name"] for told in event.handlers))
        log.log(logging.INFO if names else logging.WARNING, "serving", extra={
            "handlers": names or "none: name a module with --handlers",
            "queues": " ".join(self.terms.queues) or "all", "workers": sum(not slot.spare for slot in self.core.slots)})
        if self.broker.up:
            self.broker.announce(self.handlers)
        self.core.start(now_s)

    def _server_lost(self, event: ServerLost, now_s: float) -> None:
        log.error("the fork server is gone", extra={"reason": event.reason})
        if not self.core.budget.spend(now_s):
            self._halt(Halt("the fork server dies faster than the restart budget allows"))
        elif not self.core.draining:
            self.host.start()

    def _running(self, slot: int) -> Run | None:
        runs = self.core.slots[slot].runs
        return runs[0] if runs else None

    # -- what Redis says ------------------------------------------------------------------------------------------

    def _stepped(self, event: Stepped, now_s: float) -> None:
        self.stepping.stepped(event)
        self.telling.stepped(self.stepping.carried, now_s - event.sent_s)
        if event.claimed and self.stepping.covers(event, now_s):
            self.core.claimed(self._runs(event.claimed), now_s)
        if self._is_unheard:
            self._introduce()
        elif event.held != len(self.core.runs) + len(self.stepping.outbox) + len(self._decided()):
            self._recover()
        for letter in event.orders:
            self._obey(letter, now_s)

    def _runs(self, claimed: list[Any]) -> list[Run]:
        """What can be started of what was claimed. An earlier run of ours may not have ended yet: it was taken from us
        while we could not know, and its task has come round to us."""
        runs, make, ours = [], self.claims.make, self.core.runs
        for task_id, record, counters in zip(claimed[::3], claimed[1::3], claimed[2::3], strict=True):
            try:
                run = make(task_id, record, counters)
            except ValueError as error:
                self._set_aside(task_id, counters, str(error))
                continue
            if task_id in ours:
                self._settle(Settle(run, NOT_YET, b""))
            else:
                runs.append(run)
        return runs

    def _set_aside(self, task_id: bytes, counters: bytes, reason: str) -> None:
        """A task that cannot be read has failed; one of which not even the run is known can only be left alone."""
        log.error("a task cannot be read", extra={"task_id": task_id.decode(errors="replace"), "reason": reason})
        number = counters.partition(b" ")[0]
        if number.isdigit() and len(number) <= RUN_DIGITS_MAX:
            run = self.claims.stand_in(task_id, int(number))
            self._settle(Settle(run, UNREADABLE, Outcome.unreadable(run.number, reason)))

    def _decided(self) -> list[Run]:
        """Runs that the core has ended, and whose ends are not in the outbox yet."""
        return [command.run for command in self.core.commands if type(command) is Settle]

    def _introduce(self) -> None:
        """Tell Redis what we can run, and what we run."""
        self._is_unheard = False
        self.broker.announce(self.handlers)
        self._recover()

    def _recover(self) -> None:
        self._recovers += 1
        self.broker.recover(self.stepping.known([*self.core.runs.values(), *self._decided()]))

    def _refused(self, event: Refused, now_s: float) -> None:
        self.stepping.refused(event, now_s)

    def _rung(self, event: Rung, now_s: float) -> None:
        self.stepping.ring(mail=True)

    def _joined(self, event: Joined, now_s: float) -> None:
        log.info("connected to Redis")
        self.stepping.redate(int(self.clock.offset_ms - self._offset_ms))
        self._introduce()
        self.stepping.ring(mail=True)
        self._say_ready()

    def _parted(self, event: Parted, now_s: float) -> None:
        self.stepping.parted(event)
        self._recovers = 0
        self._offset_ms = self.clock.offset_ms
        log.warning("Redis is away", extra={"reason": event.reason, "outcomes_pending": len(self.stepping.outbox)})

    def _handed(self, event: Handed, now_s: float) -> None:
        """While Redis brings the beliefs together it takes back what we had not heard of, and that includes this. What
        we let pass by shows in the next step: Redis has us hold more than we know of, and it is given back."""
        if not self._recovers and self.stepping.holds(now_s):
            self.core.claimed(self._runs([event.task_id, event.record, b"1 0 0"]), now_s)

    def _recovered(self, event: Recovered, now_s: float) -> None:
        self._recovers -= 1
        for task_id in event.foreign:
            self.core.cancel(task_id, "its lease was lost", now_s)
        self.stepping.ring(mail=False)

    def _not_heard(self, event: NotHeard, now_s: float) -> None:
        log.warning("Redis refused to hear of our runs or handlers; told again after the next step",
                    extra={"reason": event.reason})
        self._is_unheard = True
        self._recovers -= event.of_runs

    def _obey(self, letter: bytes, now_s: float) -> None:
        try:
            order = orjson.loads(letter)
        except ValueError:
            order = None
        match order:
            case {"do": "cancel", "id": str(task_id)}:
                self.core.cancel(task_id.encode(), str(order.get("reason") or "cancelled"), now_s)
            case {"do": "stack", "slot": int(slot)} if 0 <= slot < len(self.core.slots) and self.core.slots[slot].pid:
                self.host.dump(slot)
            case {"do": "restart", "slot": int(slot)} if 0 <= slot < len(self.core.slots):
                self.core.replace(slot, now_s, at_once=bool(order.get("at_once")))
            case {"do": "level", "level": str(level)} if level in LEVELS:
                logging.getLogger("ganger").setLevel(level)
            case _:
                log.warning("an order that cannot be obeyed", extra={"order": letter[:200].decode(errors="replace")})

    # -- what it says ---------------------------------------------------------------------------------------------

    def _fence(self) -> None:
        log.error("the lease is about to lapse: all runs are ended", extra={"runs": len(self.core.runs)})
        self.core.fence()

    def _report(self, now_s: float) -> bytes:
        return report.encode(self.terms, self.core, started_ms=self.started_ms, now_ms=self.clock.now_ms(),
                             now_s=now_s, failures=self.failures, pending=len(self.stepping.outbox))

    def _say_ready(self) -> None:
        """Once: workers are up, and Redis knows the handlers."""
        if not self._said_ready and self.broker.up and all(
                slot.pid is not None or slot.spare for slot in self.core.slots):
            self._said_ready = True
            self.stepping.report_soon()
            self.tell_root({"is": "ready", "handlers": [one["name"] for one in self.handlers],
                            "failures": self.failures})


def _pause_asked(outcome: bytes) -> float | None:
    """The pause in seconds that a handler's Retry asked for; None for anything else that stands there."""
    try:
        after_s = orjson.loads(outcome)["retry_after"]
    except (ValueError, TypeError, KeyError):
        return None
    return after_s if isinstance(after_s, int | float) and 0 <= after_s <= PAUSE_S_MAX else None
