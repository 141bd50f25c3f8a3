"""A worker: the process in a slot, forked from the fork server. It runs one task at a time and replies before the next.

    receive → look the handler up → read the payload → call → write the outcome → reply

It knows its pipes and the handlers, nothing of Redis or queues. All of its cost
counts twice: it is what each task pays beside its own work.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from os import read
from time import monotonic
from typing import Any, NoReturn

import orjson

from engine.adapters.process.between_runs.cleanup import LEAVES_S, BetweenRuns, Leftovers, MemoryGrowth
from engine.adapters.process.between_runs.copies import leave
from engine.adapters.process.between_runs.orphans import Orphans
from engine.adapters.process.forkserver.handler_table import ALWAYS, LoadedHandler
from engine.adapters.process.resources.final_usage import Write
from engine.adapters.process.worker import lifetime
from engine.adapters.process.worker.capture import OutputCapture
from engine.adapters.process.worker.interrupts import Interrupts, Shield, call
from engine.adapters.process.worker.meter import Meter
from engine.adapters.process.worker.native_output import NativeOutput
from engine.adapters.process.worker.outbox import Outbox, ProgressReporter
from engine.adapters.process.worker.outcomes import InvalidResult, OutcomeWriter, PayloadRefused, RunFacts, refused
from engine.adapters.process.worker.title import ProcessTitle
from engine.adapters.waiting_mark import WAITING_THREADS
from engine.core.worker import frames
from engine.core.worker.frames import COMPLETED, FRAME_HEAD, PACKET_BYTES_MAX, REPLIED, TASK_HEAD, WALL_US_MAX, Joiner
from engine.errors import UnknownHandler
from engine.tasks.context import Context

_TASK = frames.TASK[0]
_NAME_AT = TASK_HEAD.size + 2  # a record begins with ["name", and so needs no parser to find its handler


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker needs to know beside its descriptors and handlers."""

    name: str  # "<supervisor>/<slot>"
    payload_bytes_max: int
    result_bytes_max: int
    log_bytes_max: int
    task_timeout: float
    stop_s: float = 5.0  # for all that is done at its end in good order
    growth_bytes_max: int = 0  # beyond what it held at its start; 0: as much as it likes


class WorkerLoop:
    """The loop, and what one run needs. Not to be used from any thread but the main one."""

    def __init__(self, settings: WorkerSettings, handlers: dict[bytes, LoadedHandler], tasks: int, replies: int,
                 control: int, output: tuple[int, int], title: ProcessTitle, write_mark: Write) -> None:
        self._settings, self._handlers, self._tasks = settings, handlers, tasks
        self.outbox = Outbox(replies)
        self._joiner = Joiner()
        self._title = title
        self.interrupts = Interrupts(control)
        self.capture = OutputCapture(self.outbox.post, settings.log_bytes_max)
        self.meter = Meter(write_mark)
        self.orphans, self.native_output = Orphans(tasks), NativeOutput(*output)
        self._outcomes = OutcomeWriter(settings.name, os.getpid(), settings.result_bytes_max)
        self._payload_bytes_max = settings.payload_bytes_max
        self.is_copy = False  # set in a process that a handler has forked

    def serve(self, take_signals: Callable[[], None]) -> NoReturn:
        """Run tasks until told to quit, or until the pool is gone. `take_signals` puts signals back after a run."""
        growth = MemoryGrowth(self._settings.growth_bytes_max, self.outbox.post)
        self.between_runs = BetweenRuns(growth, Leftovers(self.capture, take_signals), self.orphans, self.meter)
        self.outbox.reply(frames.frame(frames.BOOTED, 0, orjson.dumps({"pid": os.getpid()})))
        WAITING_THREADS.tell_to(lambda does: self.outbox.post(frames.frame(frames.WAITING, 0, b"1" if does else b"0")))
        receive, tasks, run = read, self._tasks, self._run
        while True:
            message: bytes | None = receive(tasks, PACKET_BYTES_MAX)
            if not message:  # the pool is gone
                os._exit(0)
            if message[0] != _TASK:
                message = self._whole(message)
                if message is None:
                    continue
            run(message)

    def _whole(self, packet: bytes) -> bytes | None:
        """The message that a piece completes, if it does; does not return from a quit."""
        message = self._joiner.feed(packet)
        if message == frames.QUIT:
            lifetime.end(self.outbox.post, self._settings.stop_s)
        return message

    def _run(self, message: bytes) -> None:
        """One task, from its message to its reply."""
        _, token, run, _, offset_ms, task_id = TASK_HEAD.unpack_from(message)
        capture, meter, outcomes = self.capture, self.meter, self._outcomes
        capture.message = message
        if capture.used:
            capture.reset()
        handler: LoadedHandler | None = None
        started_s = monotonic()
        try:
            handler = self._handlers.get(message[_NAME_AT : message.index(b'"', _NAME_AT)])
            if handler is None:
                handler = self._find(message)
            if measured := handler.measured:
                self._title.begin(handler.spec.name, task_id)
                meter.begin()
            arguments = self._arguments(handler, message[message.index(b"\n", _NAME_AT) + 1 :])
            if handler.wants_context:
                arguments += (self._context(handler, message, started_s),)
            result = outcomes.result(call(self.interrupts, token, handler.function, arguments))
        except BaseException as error:  # noqa: BLE001  whatever leaves a handler ends the run, and only the run
            self._fail(message, handler, error, started_s)
            return
        ended_s = monotonic()
        wall_s = ended_s - started_s
        if self.is_copy:  # a fork of the handler's comes back through us; the original replies
            leave(None)
        if self.interrupts.suspended == token:
            wall_s -= self.interrupts.suspended_s
        cpu_s = meter.end(handler, wall_s)
        if measured or handler.measured:
            self._look_after(handler, wall_s)
        dropped = capture.finish() if capture.used else 0
        body = outcomes.completed(run, result, int(started_s * 1000 + offset_ms), int(ended_s * 1000 + offset_ms),
                                  wall_s, cpu_s, meter.peak_bytes, dropped)
        wall_us = min(int(wall_s * 1e6), WALL_US_MAX)
        self.outbox.reply(FRAME_HEAD.pack(len(body), REPLIED, token, COMPLETED, wall_us) + body)
        if ended_s >= self.between_runs.due_s:
            self.between_runs.clean_up(ended_s)

    def _look_after(self, handler: LoadedHandler, wall_s: float) -> None:
        """Before the reply of a run that was not short, or whose handler's runs were not short so far."""
        self._title.end()
        if self.native_output.settle():
            handler.settles = ALWAYS
        if handler.settles > 0:
            handler.settles -= 1
            handler.measured = True  # so that we look again, however short its runs are
        if wall_s > LEAVES_S:
            self.between_runs.due_s = 0.0

    def _fail(self, message: bytes, handler: LoadedHandler | None, error: BaseException, started_s: float) -> None:
        """Reply for a run that an exception ended."""
        ended_s = monotonic()
        if self.is_copy:
            leave(None if type(error) is InvalidResult else error)  # the result of a copy is not wanted
        _, token, run, _, offset_ms, _ = TASK_HEAD.unpack_from(message)
        wall_s = ended_s - started_s
        if self.interrupts.suspended == token:
            wall_s -= self.interrupts.suspended_s
        self._title.end()
        self.native_output.settle()
        facts = RunFacts(run, int(started_s * 1000 + offset_ms), int(ended_s * 1000 + offset_ms), wall_s,
                         self.meter.end(handler, wall_s), self.meter.peak_bytes, self.capture.finish())
        verdict, body = self._outcomes.failed(handler, error, facts)
        self.outbox.reply(frames.frame(REPLIED, token, body, verdict, int(wall_s * 1e6)))
        self.between_runs.clean_up(ended_s)

    def _find(self, message: bytes) -> LoadedHandler:
        """The handler of a task whose name has to be read properly."""
        name = _head_of(message)[0]
        for handler in self._handlers.values():
            if handler.spec.name == name:
                return handler
        raise UnknownHandler(f"this worker has no handler {name!r}", field="task_type", value=name)

    def _arguments(self, handler: LoadedHandler, payload: bytes) -> tuple[Any, ...]:
        """The payload as the function takes it."""
        limit = self._payload_bytes_max
        if len(payload) > limit:
            raise PayloadRefused(f"the payload has {len(payload):,} bytes, over the limit of {limit:,} "
                                 "(payload_bytes_max)", field="payload", value=f"{len(payload)} bytes")
        if not handler.takes_payload:
            return ()
        try:
            return (handler.parse(payload),)
        except Exception as error:  # a model's validators are the user's code
            raise refused(error) from error

    def _context(self, handler: LoadedHandler, message: bytes, started_s: float) -> Context:
        _, token, run, attempts, _, task_id = TASK_HEAD.unpack_from(message)
        head = _head_of(message)
        options = head[3] if len(head) > 3 else {}
        timeout = options.get("timeout", handler.spec.options.get("timeout"))
        if timeout is None:
            timeout = self._settings.task_timeout
        context = Context(task_id.decode(), head[0], options.get("name", head[0]), run, attempts + 1,
                          started_s + timeout if timeout else None, options.get("traceparent"),
                          ProgressReporter(self.outbox.post, message),
                          partial(Shield, self.interrupts))
        self.interrupts.context = token, context
        return context


def _head_of(message: bytes) -> list[Any]:
    head: list[Any] = orjson.loads(message[TASK_HEAD.size : message.index(b"\n", TASK_HEAD.size)])
    return head
