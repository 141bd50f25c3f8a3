"""Redis as a supervisor sees it: the steps, its commands, and the announcements, over one non-blocking link.

Fulfils `ports.SupervisorBroker`. Turns typed calls into commands and replies
into events; decides nothing. At most one step is under way.
"""

import time
from dataclasses import dataclass
from typing import Any

import hiredis
import orjson

from engine.adapters.clock import RedisClock
from engine.adapters.redis.wire import scripts
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.layouts import LAYOUTS
from engine.adapters.redis.wire.supervisor_link import Answered, Connected, Lost, Pushed, SupervisorLink
from engine.core.pool.actions import Preempt
from engine.core.task.task_id import LENGTH, created_ms, is_task_id
from engine.ports.poller import Poller
from engine.ports.supervisor_broker import (
    BrokerEvent,
    Handed,
    HeldRunsSynced,
    Joined,
    Parted,
    Refused,
    RegistrationRefused,
    Settlement,
    Stepped,
    Waited,
    Woken,
)

TYPES_TTL_S = 180.0  # what was said of types is believed for so long; it is said again each minute


@dataclass(frozen=True, slots=True)
class Terms:
    """What a supervisor tells Redis with every step. `queues` is empty for "all there are"."""

    supervisor: str
    queues: tuple[str, ...]
    lease_s: float
    ageing_s: float
    failed_ttl_s: float
    log_ttl_s: float
    slice: int = 16  # records that Redis reads at once; it may answer with 8 MiB and a slice
    log_rows_max: int = 10_000


@dataclass(slots=True)
class _Step:
    settlements: list[Settlement]
    want: int
    sent_s: float


class RedisSupervisorBroker:
    def __init__(self, url: str, keys: Keys, terms: Terms, clock: RedisClock, poller: Poller) -> None:
        self.keys, self.terms, self.clock = keys, terms, clock
        self._link = SupervisorLink(url, keys.wakeup(terms.supervisor), clock, poller, schema_key=keys.schema)
        self._events: list[BrokerEvent] = []
        self._serves = "," + ",".join(terms.queues) + "," if terms.queues else "*"
        self._step_keys = LAYOUTS["step"].keys(keys, terms.supervisor)
        self._syncs = 0  # sent so far
        self.is_unregistered = False  # Redis has answered, or can't

    @property
    def up(self) -> bool:
        return self._link.up

    # -- what the supervisor asks ---------------------------------------------------------------------------------

    def step(self, settlements: list[Settlement], want: int, idle_workers: int | None, held: int, report: bytes,
             preempt: Preempt = Preempt.NEVER, last_command: bytes = b"") -> None:
        now_ms, terms = self.clock.now_ms(), self.terms
        args: list[Any] = LAYOUTS["step"].args(
            supervisor=terms.supervisor, now_ms=now_ms, lease_end_ms=now_ms + int(terms.lease_s * 1000), want=want,
            ageing_ms=int(terms.ageing_s * 1000), base=self.keys.base, serves=self._serves,
            expired_remove_ms=now_ms + int(terms.failed_ttl_s * 1000), report=report,
            idle_workers="" if idle_workers is None else idle_workers, known_runs=held, preempts=preempt.value,
            last_command=last_command, slice=terms.slice)
        for settlement in settlements:
            args.extend(settlement)
        self._link.run(_Step(settlements, want, time.monotonic()), "step", self._step_keys, args)

    def sync_held_runs(self, known: list[tuple[bytes, int]]) -> None:
        self._syncs += 1
        supervisor, layout = self.terms.supervisor, LAYOUTS["sync_held_runs"]
        names = layout.keys(self.keys, supervisor)
        args: list[Any] = layout.args(base=self.keys.base, now_ms=self.clock.now_ms(), supervisor=supervisor,
                                      number=self._syncs)
        for task_id, run in known:
            args += [task_id, run]
        # Whole, so that it is never sent a second time: what a step that overtook it has claimed is not in `known`.
        self._link.send("sync_held_runs", "EVAL", scripts.source("sync_held_runs"), len(names), *names, *args)

    def ask_waits(self) -> None:
        layout = LAYOUTS["get_lane_waits"]
        self._link.run("waits", "get_lane_waits", layout.keys(self.keys, self.terms.supervisor), layout.args(
            base=self.keys.base, now_ms=self.clock.now_ms(), serves=self._serves))

    def register(self, handlers: list[dict[str, Any]]) -> None:
        layout = LAYOUTS["register"]
        pairs = [part for one in handlers for part in (one["name"], orjson.dumps(one))]
        args = layout.args(now_ms=self.clock.now_ms(), ttl_ms=int(TYPES_TTL_S * 1000))
        self._link.run("register", "register", layout.keys(self.keys, self.terms.supervisor), [*args, *pairs])

    def log(self, task_id: bytes, rows: list[bytes]) -> None:
        key = self.keys.log(task_id.decode())
        self._link.send(None, "RPUSH", key, *rows)
        self._link.send(None, "LTRIM", key, -self.terms.log_rows_max, -1)
        self._link.send(None, "PEXPIRE", key, int(self.terms.log_ttl_s * 1000))

    def progress(self, task_id: bytes, body: bytes) -> None:
        self._link.send(None, "HSET", self.keys.progress, task_id, body)

    def unregister(self) -> None:
        layout, supervisor = LAYOUTS["unregister"], self.terms.supervisor
        self._link.run("unregister", "unregister", layout.keys(self.keys, supervisor),
                       layout.args(supervisor=supervisor))

    def next_deadline_s(self) -> float:
        return self._link.next_deadline_s()

    def tick(self, now_s: float) -> None:
        self._link.tick(now_s)

    def close(self) -> None:
        self._link.close()

    def events(self) -> list[BrokerEvent]:
        for event in self._link.events():
            match event:
                case Answered(tag, reply):
                    try:
                        self._answered(tag, reply)
                    except (ValueError, TypeError, AttributeError, IndexError) as error:
                        self._link.give_up(f"an answer that makes no sense ({error}): {reply!r:.100}", tag)
                case Pushed(b"#"):
                    self._link.give_up("the format of the data has changed")
                case Pushed(message) if message.startswith(b"="):
                    self._handed(message)
                case Pushed():
                    self._events.append(Woken())
                case Lost(reason, tags):
                    lost = [settlement for tag in tags if isinstance(tag, _Step) for settlement in tag.settlements]
                    self.is_unregistered = self.is_unregistered or "unregister" in tags
                    self._events.append(Parted(reason, lost))
                case Connected():
                    self._events.append(Joined())
        events, self._events = self._events, []
        return events

    # -- what Redis answers ---------------------------------------------------------------------------------------

    def _answered(self, tag: object, reply: Any) -> None:
        if isinstance(tag, _Step):
            self._stepped(tag, reply)
        elif tag == "unregister":
            self.is_unregistered = True
        elif tag in ("sync_held_runs", "register") and isinstance(reply, hiredis.ReplyError):
            self._events.append(RegistrationRefused(str(reply), of_runs=tag == "sync_held_runs"))
        elif tag == "sync_held_runs":
            self._events.append(HeldRunsSynced(reply))
        elif tag == "register":
            self._events.append(Woken())  # of what we know, something may wait
        elif tag == "waits":
            self._events.append(Waited(0.0 if isinstance(reply, hiredis.ReplyError) else self._longest_s(reply)))

    def _longest_s(self, told: list[bytes]) -> float:
        longest_ms, now_ms = 0, self.clock.now_ms()
        for head, at_ms in zip(told[::2], told[1::2], strict=True):
            task_id = head.decode("ascii", "replace")
            if is_task_id(task_id):
                longest_ms = max(longest_ms, now_ms - (int(at_ms) if at_ms else created_ms(task_id)))
        return longest_ms / 1000

    def _stepped(self, step: _Step, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._events.append(Refused(str(reply), step.settlements))
            return
        refused, claimed, commands, types_known, held = reply
        words = [(step.settlements[refused[at] - 1], refused[at + 1].decode()) for at in range(0, len(refused), 2)]
        self._events.append(Stepped(words, claimed, len(claimed) >= 3 * step.want, commands, held, step.sent_s,
                                    types_known))

    def _handed(self, message: bytes) -> None:
        told, _, record = message.partition(b" ")
        self._events.append(Handed(told[1:1 + LENGTH], record))
