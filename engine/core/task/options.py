"""The options of a task: one table, from which everything that knows options is derived.

An option is declared here and nowhere else. The checks of a submit and of a handler
(`engine/tasks/options.py`), the stored record, the policy of a run, the models of the REST API, the
flags of `ganger submit` and the table in docs/options.md all read this table. The typed dictionaries
for type checkers are written beside it, and a test holds them equal to it.

A value comes from, in falling precedence: the submit, the handler, the setting that the option names,
its default.
"""

from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Any

TEXT_CHARACTERS_MAX = 200
TAGS_MAX = 32
SECONDS_MAX = 3_155_760_000.0  # a hundred years: beyond it a sum of milliseconds leaves what a float keeps exactly
COUNT_MAX = 1_000_000_000
MEMORY_BYTES_MIN, MEMORY_BYTES_MAX = 1_048_576, 1 << 50
MEMORY_STEPS_MAX = 10
NICE_MAX = 19
URL_CHARACTERS_MAX = 2048


class OptionType(Enum):
    """What the values of an option are. Each type has one check, one stored form, one form in REST, one as a flag."""

    TEXT = "text"
    QUEUE = "queue name"
    PRIORITY = "priority"
    SECONDS = "number or timedelta"
    COUNT = "whole number"
    NUMBER = "number"
    BOOLEAN = "true or false"
    CHOICE = "one of some words"
    MEMORY = 'whole number, or text such as "512M"'
    MEMORY_STEPS = "rising amounts of memory"
    TAGS = "list of texts"
    EXCEPTIONS = "exception class, or several"
    TRACEPARENT = "W3C traceparent"
    WEBHOOK = '{"url": …, "on": [statuses]}'


class Giver(Flag):
    """Where an option may be given."""

    HANDLER = auto()
    SUBMIT = auto()
    API = auto()
    CLI = auto()


TASK = Giver.SUBMIT | Giver.API | Giver.CLI
BOTH = Giver.HANDLER | TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option.

    `about` is its documentation in one line, `unit` what a number counts, `by` where it may be given. `setting` names
    the setting that holds where nobody gives the option; without one, `default` says in words what holds.

    `low` and `high` bound a number; `may_be_low` is False where `low` itself is refused. `choices` are the words that
    a CHOICE may be.

    `key` is its name in the options of a stored record, None if it is stored elsewhere or not at all; `is_moment` says
    that seconds from now are stored as a moment in milliseconds. `policy` is the field of `RunPolicy` that it sets.
    `can_be_amended` says whether it can be changed before the first run. `example` is a value for documentation, and
    `placeholder` stands for a value in the help of the command line. `header` is a header of HTTP that gives it too.
    """

    name: str
    type: OptionType
    about: str
    by: Giver
    unit: str = ""
    setting: str | None = None
    default: str = ""
    low: float = 0
    high: float = 0
    may_be_low: bool = True
    choices: tuple[str, ...] = ()
    key: str | None = None
    is_moment: bool = False
    policy: str | None = None
    can_be_amended: bool = False
    example: Any = None
    placeholder: str = ""
    header: str = ""


def _text(name: str, about: str, **more: Any) -> Option:
    return Option(name=name, type=OptionType.TEXT, about=about, by=TASK, **more)


def _seconds(name: str, about: str, by: Giver = BOTH, **more: Any) -> Option:
    return Option(name=name, type=OptionType.SECONDS, about=about, by=by, unit="seconds", high=SECONDS_MAX, **more)


def _count(name: str, about: str, unit: str, by: Giver = BOTH, *, high: int = COUNT_MAX, **more: Any) -> Option:
    return Option(name=name, type=OptionType.COUNT, about=about, by=by, unit=unit, high=high, **more)


def _of_handler(name: str, type: OptionType, about: str, **more: Any) -> Option:
    return Option(name=name, type=type, about=about, by=Giver.HANDLER, **more)


_TABLE = (
    _text("name", "A name for people; it need not be unique.", default="the task type", key="name",
          can_be_amended=True, example="thumbnail of 7"),
    Option(name="queue", type=OptionType.QUEUE, about="Queue to put the task in.", by=BOTH, default="default",
           example="images"),
    Option(name="priority", type=OptionType.PRIORITY, about="LOW, NORMAL, HIGH or URGENT.", by=BOTH,
           default="NORMAL", can_be_amended=True, example="HIGH"),
    _seconds("delay", "Start the task after this many seconds at the earliest.", TASK, default="0", key="due_ms",
             is_moment=True, example=5),
    _seconds("expires", "Start no run of the task after this many seconds; if it still waits then, it has failed.",
             default="never", may_be_low=False, key="expires_ms", is_moment=True, example=3600),
    _seconds("timeout", "Kill a run that takes longer than this many seconds. 0 = never.", setting="task_timeout",
             key="timeout", policy="timeout_s", can_be_amended=True, example=60),
    _seconds("soft_timeout", "Raise SoftTimeout in the handler after this many seconds. 0 = never.",
             setting="soft_timeout", key="soft_timeout", policy="soft_timeout_s", can_be_amended=True, example=50),
    _count("max_retries", "Run the task again after a failure, at most this many times.", "runs",
           setting="max_retries", key="max_retries", policy="retry.max_retries", can_be_amended=True, example=3),
    _seconds("retry_backoff_s", "Wait this many seconds before the first retry.", Giver.HANDLER,
             setting="retry_backoff_s", policy="retry.backoff_s"),
    _of_handler("retry_factor", OptionType.NUMBER, "Make each further pause this many times as long.", unit="times",
                low=1, high=1000, setting="retry_factor", policy="retry.factor"),
    _seconds("retry_backoff_s_max", "Wait no longer than this many seconds before any retry.", Giver.HANDLER,
             setting="retry_backoff_s_max", policy="retry.backoff_s_max"),
    _of_handler("retry_jitter", OptionType.NUMBER, "Leave this part of each pause to chance, from 0 to 1.",
                unit="share of the pause", high=1, setting="retry_jitter", policy="retry.jitter"),
    _of_handler("retry_on", OptionType.EXCEPTIONS, "Retry only after these exceptions.", default="every Exception"),
    _of_handler("no_retry_on", OptionType.EXCEPTIONS, "Never retry after these exceptions.", default="none"),
    _of_handler("retry_on_timeout", OptionType.BOOLEAN, "Whether a run that exceeded its timeout is retried.",
                default="false", policy="retry.retry_on_timeout"),
    _count("max_deliveries", "Start at most this many runs. 1 = never run again when the fate of a run is unknown.",
           "runs", low=1, default="no limit", key="max_deliveries", policy="retry.max_deliveries", example=1),
    _count("max_crashes", "Set the task aside as poison when it has cost this many workers.", "runs", Giver.HANDLER,
           setting="max_crashes", policy="retry.max_crashes"),
    _text("idempotency_key", "A second submit to the same queue with the same key gives the first task.",
          default="none", placeholder="KEY", header="Idempotency-Key"),
    _text("fair_key", "Tasks of one queue take turns by this key, such as a customer.", default="none",
          key="fair_key", example="customer-42", placeholder="KEY"),
    Option(name="tags", type=OptionType.TAGS, about="Tags to find the task by.", by=TASK, default="none", key="tags",
           can_be_amended=True, example=["customer-42"]),
    Option(name="max_memory", type=OptionType.MEMORY, unit="bytes", by=BOTH, setting="max_memory", key="max_memory",
           about="End a run that uses more memory, with all that it starts; such as 512M. 0 = no limit.",
           policy="limits.memory_bytes", can_be_amended=True, example="512M"),
    _of_handler("retry_with_memory", OptionType.MEMORY_STEPS, "max_memory of the runs after the first, second … crash.",
                unit="bytes", default="as max_memory", policy="limits.retry_memory_bytes"),
    _seconds("max_cpu_seconds", "End a run that uses more processor time, with all that it starts. 0 = no limit.",
             setting="max_cpu_seconds", key="max_cpu_seconds", policy="limits.cpu_s", can_be_amended=True, example=60),
    _count("max_processes", "End a run that has more processes, its worker included. 0 = no limit.", "processes",
           setting="max_processes", key="max_processes", policy="limits.processes", can_be_amended=True),
    _count("nice", "How far a run lets other processes go first, 0 to 19.", "as of the command nice", high=NICE_MAX,
           setting="nice", key="nice", policy="limits.nice", can_be_amended=True),
    _of_handler("preemptible", OptionType.BOOLEAN, "Whether a run may be suspended so that an URGENT task can start.",
                default="true", policy="preemptible"),
    _of_handler("start_method", OptionType.CHOICE, "Run only in a pool that starts its workers like this.",
                choices=("fork", "spawn"), default="any pool"),
    _of_handler("preload", OptionType.BOOLEAN,
                "Run only in a pool that imports handlers once (true), or anew in each worker (false).",
                default="any pool"),
    _seconds("result_ttl", "Keep the task for this many seconds after it has completed.", setting="result_ttl_s",
             key="result_ttl", policy="result_ttl_s", can_be_amended=True, example=86400),
    Option(name="durability", type=OptionType.CHOICE, by=TASK, choices=("fsync",), default="in Redis's memory",
           about="fsync: answer only when the task is on the disk of Redis. An error if this Redis cannot confirm it.",
           placeholder="fsync"),
    Option(name="webhook", type=OptionType.WEBHOOK, about="Where the API sends a message when the task has ended.",
           by=TASK, default="none", key="webhook"),
    Option(name="traceparent", type=OptionType.TRACEPARENT, by=TASK, default="none", key="traceparent",
           about="Trace context that the handler's spans belong to.", header="traceparent",
           example="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
)

OPTIONS: dict[str, Option] = {option.name: option for option in _TABLE}
"""Every option by its name, in the order of help and documentation."""


def given_by(giver: Giver) -> dict[str, Option]:
    """The options that may be given there, by name."""
    return {name: option for name, option in OPTIONS.items() if giver in option.by}


def amendable() -> dict[str, Option]:
    """The options that can be changed before the first run of a task, by name."""
    return {name: option for name, option in OPTIONS.items() if option.can_be_amended}
