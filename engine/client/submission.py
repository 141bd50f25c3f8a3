"""Checks the arguments of a submit, and completes them with the options of the handler.

Everything is checked here, before anything is written, so that a refusal changes nothing. The value of an option comes
from the submit; else from the handler that is registered in this process; else from the handler as a pool announced it;
else from the settings.

This module knows no Redis: `HandlerDirectory` gets the announcements through a function.
"""

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, NamedTuple, cast

from engine.core.task.names import did_you_mean
from engine.core.task.options import Giver, given_by
from engine.core.task.priority import TaskPriority
from engine.core.task.record import NO_OPTIONS, Record, RecordOptions
from engine.core.task.task_id import RANDOM_BITS, task_id, task_ids
from engine.errors import InvalidInput, InvalidOption, UnknownHandler
from engine.ports.client_broker import Submission
from engine.tasks import options as check
from engine.tasks.encoding import encode
from engine.tasks.handler import Handler
from engine.tasks.handler_spec import NO_PAYLOAD, REGISTRY, HandlerSpec
from engine.tasks.options import CHECKS, HANDLER_CHECKS, SUBMIT_CHECKS

ANNOUNCEMENTS_S_MAX = 5.0  # older announcements are read again


class AnnouncedHandler(NamedTuple):
    """What a submit needs of a handler that only a pool knows. Has these fields in common with `HandlerSpec`."""

    queue: str = "default"
    priority: TaskPriority = TaskPriority.NORMAL
    expires: float | None = None
    max_deliveries: int | None = None
    payload_model: None = None

    def parse(self, payload: bytes) -> None:
        """Do nothing: this process does not know the model, so only the worker checks the payload."""

    @classmethod
    def read(cls, announcement: Mapping[str, Any]) -> "AnnouncedHandler":
        """Read an announcement. One with a value that no pool would have written counts as empty."""
        try:
            return cls(**{name: CHECKS[name](value) for name in ("queue", "priority", "expires", "max_deliveries")
                          if (value := announcement.get(name)) is not None})
        except InvalidOption:
            return cls()


_NOT_ANNOUNCED = AnnouncedHandler()

# A generator of its own: after a user's random.seed() two processes would make the same ids.
_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)


class HandlerDirectory:
    """Finds handlers by task type: those that are registered in this process, and those that pools have announced."""

    def __init__(self, announcements: Callable[[], Mapping[str, Mapping[str, Any]]],
                 registry: Mapping[str, HandlerSpec] = REGISTRY, *, complete: bool = False,
                 accepts_unknown: bool = False) -> None:
        """Read no announcements yet.

        Args:
            announcements: reads the announcements of pools, by task type.
            registry: the handlers of this process.
            complete: whether there are no other handlers than those of registry and announcements.
            accepts_unknown: whether a type that is unknown is accepted.
        """
        self._fetch, self._registry, self._complete = announcements, registry, complete
        self._accepts_unknown = accepts_unknown
        self._announced: dict[str, AnnouncedHandler] = {}
        self._stale_s = 0.0

    def find(self, task_type: str) -> HandlerSpec | AnnouncedHandler:
        """Return the handler of a task type.

        A type that is unknown is accepted while no pool has announced anything, since the first submit may come before
        the first pool; and always with `accepts_unknown`: the task then waits for a pool that knows its type.

        Raises `UnknownHandler` for any other type that is neither registered nor announced.
        """
        found = self._registry.get(task_type)
        if found is not None:
            return found
        if monotonic() < self._stale_s:
            if task_type in self._announced:
                return self._announced[task_type]
            if self._accepts_unknown or not (self._announced or self._complete):
                return _NOT_ANNOUNCED
        # No lock: two threads read the same at worst, and a forked process could inherit a lock that is held.
        self._announced = known = {name: AnnouncedHandler.read(given) for name, given in self._fetch().items()}
        self._stale_s = monotonic() + ANNOUNCEMENTS_S_MAX
        if task_type in known or self._accepts_unknown or not (known or self._complete):
            return known.get(task_type, _NOT_ANNOUNCED)
        names = {*known, *self._registry}
        hint = did_you_mean(task_type, names) or "; start one that imports its module: ganger run --handlers MODULE"
        raise UnknownHandler(f"no pool has announced a handler {check.shown(task_type)}{hint}",
                             field="task_type", value=check.shown(task_type), limit=", ".join(sorted(names)[:20]))


class SubmissionFactory:
    """Makes checked submissions. Each client has one, and any number of threads may use it."""

    def __init__(self, directory: HandlerDirectory, payload_bytes_max: int) -> None:
        self._directory, self._payload_bytes_max = directory, payload_bytes_max

    def make(self, task_type: Any, payload: Any, options: Mapping[str, Any], now_ms: int) -> Submission:
        """Check one task and return it with a new id, ready to be written.

        Args:
            task_type: the name of a handler, or the handler.
            payload: any value that is JSON, see `engine/tasks/encoding.py`.
            options: options of a submit by their names.
            now_ms: the time in milliseconds since 1970.

        Raises a subclass of `InvalidInput`.
        """
        ids = iter((task_id(now_ms, _random.getrandbits(RANDOM_BITS)),))
        return self._prepare(task_type, payload, options, now_ms, ids)

    def make_many(self, tasks: Iterable[Mapping[str, Any]], now_ms: int) -> list[Submission]:
        """Check tasks that are given as mappings with `task_type`, `payload` and options, as `make` does.

        Raises a subclass of `InvalidInput` that names the index of the task.
        """
        ids = task_ids(now_ms, _random.getrandbits(RANDOM_BITS))
        submissions: list[Submission] = []
        for task in tasks:
            try:
                submissions.append(self._from_mapping(task, now_ms, ids))
            except InvalidInput as error:
                item = f"tasks[{len(submissions)}]"
                raise type(error)(f"{item}: {error}", field=f"{item}.{error.field}", value=error.value,
                                  limit=error.limit) from error
        return submissions

    def _from_mapping(self, task: Mapping[str, Any], now_ms: int, ids: Iterator[str]) -> Submission:
        if type(task) is not dict and not isinstance(task, Mapping):
            raise InvalidOption(f"{check.shown(task)} is not a mapping", field="task", value=check.shown(task),
                                limit='{"task_type": …, "payload": …, options}')
        try:
            task_type = task["task_type"]
        except KeyError:
            raise InvalidOption(f"task_type is missing from {check.shown(task)}", field="task_type",
                                limit="the name of a handler") from None
        payload = task.get("payload", NO_PAYLOAD)
        if len(task) == 2 and "payload" in task:
            return self._prepare(task_type, payload, _NO_OPTIONS, now_ms, ids)
        options = {name: task[name] for name in task if name not in _NOT_OPTIONS}
        return self._prepare(task_type, payload, options, now_ms, ids)

    def _prepare(self, task_type: Any, payload: Any, options: Mapping[str, Any], now_ms: int,
                 ids: Iterator[str]) -> Submission:
        if type(task_type) is not str:
            task_type = _name_of(task_type)
        given = _checked(options) if options else {}
        handler = self._directory.find(task_type)
        text = encode(payload, self._payload_bytes_max)
        if handler.payload_model is not None:
            handler.parse(text)
        if not given:
            record = Record(task_type, handler.queue, handler.priority, now_ms, text, _stored(given, handler, now_ms))
            return Submission(next(ids), record, None)
        record = Record(task_type, given.get("queue", handler.queue), given.get("priority", handler.priority), now_ms,
                        text, _stored(given, handler, now_ms))
        return Submission(next(ids), record, given.get("idempotency_key"), given.get("durability"))


def _name_of(task_type: Any) -> str:
    """The name of a handler, which may be given in place of it."""
    if isinstance(task_type, Handler):
        return task_type.spec.name
    if isinstance(task_type, str):
        return str(task_type)
    raise check.refuse("task_type", task_type, "the name of a handler")


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    given = {}
    for name, value in options.items():
        if name not in SUBMIT_CHECKS:
            raise _no_option(name)
        if value is not None:
            given[name] = SUBMIT_CHECKS[name](value)
    if "expires" in given and given.get("delay", 0) >= given["expires"]:
        raise check.refuse("expires", given["expires"], f"more than the delay ({given['delay']:g} s)")
    if given.get("timeout") and given.get("soft_timeout", 0) >= given["timeout"]:
        raise check.refuse("soft_timeout", given["soft_timeout"], f"less than the timeout ({given['timeout']:g} s)")
    return given


def _no_option(name: str) -> InvalidOption:
    if name in HANDLER_CHECKS:
        return InvalidOption(f"submit has no option {name!r}: it holds for all tasks of a handler, so say it there, "
                             f"@handler(…, {name}=…)", field=name, limit="an option of submit")
    return check.unknown(name, SUBMIT_CHECKS, "submit")


def _stored(given: dict[str, Any], handler: HandlerSpec | AnnouncedHandler, now_ms: int) -> RecordOptions:
    """The options as the record keeps them: seconds from now become moments in milliseconds."""
    if given.keys() <= _NOT_STORED and handler.expires is None and handler.max_deliveries is None:
        return NO_OPTIONS
    stored = cast(RecordOptions, {key: given[name] for name, key in _KEYS if name in given})
    expires = given.get("expires", handler.expires)
    if expires is not None:
        stored["expires_ms"] = now_ms + int((expires + (0 if "expires" in given else given.get("delay", 0))) * 1000)
    if given.get("delay"):
        stored["due_ms"] = now_ms + int(given["delay"] * 1000)
    if handler.max_deliveries is not None and "max_deliveries" not in stored:
        stored["max_deliveries"] = handler.max_deliveries
    return stored


_NO_OPTIONS: dict[str, Any] = {}
_NOT_OPTIONS = frozenset({"task_type", "payload"})
_OF_SUBMIT = given_by(Giver.SUBMIT)
_NOT_STORED = frozenset(name for name, option in _OF_SUBMIT.items() if option.key is None)
_KEYS = tuple((name, option.key) for name, option in _OF_SUBMIT.items() if option.key and not option.is_moment)
