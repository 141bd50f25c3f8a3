"""The keys and arguments of each script, by name and in order: the one place that knows the order.

`scripts` renders the names into the Lua text, and callers pass by name:

    layout = LAYOUTS["expire_lease"]
    redis.run("expire_lease", layout.keys(keys), layout.args(supervisor="pool-1", seen_ms=""))

`name[first second]` is a group: it is repeated for each item, and stands behind the single names. Where another group
follows, an argument `<item>_count` says how many items there are: `lane_count` of `lanes`.
"""

import re
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

Argument = str | bytes | int | float

_PART = re.compile(r"(\w+)(?:\[([^\]]*)\])?")


class Names(NamedTuple):
    """The single names of a list of keys or arguments, and the fields of each group behind them."""

    single: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]

    @classmethod
    def parse(cls, text: str) -> "Names":
        parts = _PART.findall(text)
        groups = {name: tuple(fields.split()) for name, fields in parts if fields}
        return cls(tuple(name for name, fields in parts if not fields), groups)


class KeyNames(Protocol):
    """Knows the key that a name in a layout stands for: see `keys.Keys`."""

    def named(self, name: str, supervisor: str = "") -> str: ...


class Layout:
    """The names of one script's keys and arguments."""

    def __init__(self, keys: str, args: str) -> None:
        self.key_names, self.arg_names = Names.parse(keys), Names.parse(args)
        self._arg_order: Any = itemgetter(*self.arg_names.single) if len(self.arg_names.single) > 1 else None

    def keys(self, keys: KeyNames, supervisor: str = "", **others: str) -> list[str]:
        """The single keys in order: as given in `others`, else as `Keys` names them, for the supervisor if it is one
        of a supervisor. The keys of groups come behind them.
        """
        return [others[name] if name in others else keys.named(name, supervisor) for name in self.key_names.single]

    def args(self, **named: Argument) -> list[Argument]:
        """The single arguments in order. Raises `KeyError` for one that is missing, `TypeError` for one too many."""
        if len(named) != len(self.arg_names.single):
            raise TypeError(f"the arguments are {', '.join(self.arg_names.single)}; given: {', '.join(named)}")
        if self._arg_order is None:
            return [named[name] for name in self.arg_names.single]
        return list(self._arg_order(named))

    def rows(self, group: str, items: Iterable[Mapping[str, Argument]]) -> list[Argument]:
        """The arguments of a group: the fields of each item in order."""
        fields = self.arg_names.groups[group]
        return [item[field] for item in items for field in fields]


LAYOUTS = {
    # -- tasks ----------------------------------------------------------------------------------------------------
    "submit": Layout("tasks queues idle_supervisors events counters states lanes[lane cursors]",
                     "base event_row now_ms lane_count lanes[queue priority task_count] tasks[id record]"),
    "submit_detailed": Layout(
        "tasks states queues due expiring idle_supervisors events counters lanes[lane cursors] idempotency_keys[key]",
        "now_ms base idempotency_ms lane_count lanes[queue] "
        "tasks[id record lane priority fair_key due_ms expires_ms idempotency_key]"),
    "get_tasks": Layout("tasks states outcomes progress", "wants_records ids[id]"),
    "watch": Layout("tasks states waiters", "client ids[id]"),
    "cancel_queued": Layout(
        "tasks states outcomes progress due expiring ended events counters waiters lanes[lane cursors]",
        "base now_ms move remove_ms tasks[id state is_stored run lane fair_key outcome]"),
    "requeue": Layout(
        "tasks states queues rescues idle_supervisors events counters ended_failed ended_cancelled ended_timeout "
        "cancel_requests lanes[lane cursors]",
        "base now_ms lane_count lanes[queue] tasks[id state is_stored lane fair_key]"),
    "amend": Layout("tasks states queues lane cursors new_lane new_cursors idle_supervisors",
                    "base now_ms id state is_stored record new_record new_priority fair_key queue"),
    "remove": Layout(
        "tasks states outcomes progress rescues waiters expiring ended_completed ended_failed ended_cancelled "
        "ended_timeout logs[log]", "ids[id]"),
    "set_queue_state": Layout("queues idle_supervisors lanes[lane]", "base now_ms queue queue_state types[type]"),
    "send_command": Layout("supervisors commands states cancel_requests",
                           "base supervisor command id state cancel_request"),
    "drop_cancel_requests": Layout("cancel_requests", "requests[id request]"),
    # -- the pool -------------------------------------------------------------------------------------------------
    "step": Layout(
        "tasks states outcomes running supervisors idle_supervisors queues types_aside due expiring waiters events "
        "counters commands progress ended_completed ended_failed ended_cancelled ended_timeout reports types",
        "supervisor now_ms lease_end_ms want ageing_ms base serves expired_remove_ms report idle_workers known_runs "
        "preempts last_command slice settlements[task_id run verdict at outcome]"),
    "sync_held_runs": Layout("tasks states outcomes running queues idle_supervisors events counters progress syncs",
                             "base now_ms supervisor number runs[id run]"),
    "register": Layout("types handlers announced", "now_ms ttl_ms handlers[name announcement]"),
    "unregister": Layout("running supervisors reports idle_supervisors commands syncs types", "supervisor"),
    "get_lane_waits": Layout("states queues types_aside types", "base now_ms serves"),
    # -- the keeper -----------------------------------------------------------------------------------------------
    "poll": Layout(
        "keeper supervisors due expiring ended_completed ended_failed ended_cancelled ended_timeout cancel_requests "
        "schema", "base now_ms keeper until_ms version reads_from"),
    "expire_lease": Layout("supervisors", "supervisor seen_ms"),
    "promote": Layout("states queues due idle_supervisors events lanes[lane cursors]",
                      "base now_ms lane_count lanes[queue] tasks[id state lane fair_key]"),
    "rescue": Layout(
        "supervisors running states outcomes progress rescues queues idle_supervisors reports commands events counters "
        "waiters ended_failed ended_cancelled syncs types lanes[lane]",
        "base now_ms supervisor remove_ms lane_count lanes[queue] tasks[id state move lane outcome]"),
    "sweep": Layout(
        "tasks states outcomes progress rescues waiters expiring ended_completed ended_failed ended_cancelled "
        "ended_timeout", "base now_ms limit"),
    "repair": Layout("tasks states queues types_aside supervisors idle_supervisors events counters waiters "
                     "suspects[first second third]",
                     "base now_ms remove_ms suspects[what id state is_stored fair_key queue]"),
    "restore": Layout(
        "tasks states outcomes queues due supervisors progress rescues cancel_requests idle_supervisors events "
        "counters waiters ended_completed ended_failed ended_cancelled ended_timeout", "base now_ms remove_ms ids[id]"),
    "maintain_queues": Layout("queues unused idle_supervisors", "base now_ms unused_ms queues[name has_aside]"),
    "maintain_lanes": Layout("queues idle_supervisors types_aside", "base now_ms lanes[queue level type]"),
    "trim_cursors": Layout("cursors", "fields[field]"),
    "rename_misplaced": Layout("keys[key renamed]", "types[type]"),
    "increment": Layout("counters", "counter amount"),
    "publish": Layout("processes history", "ttl_ms entry entries_max history_ttl_ms processes[pid sample]"),
    # -- the records ----------------------------------------------------------------------------------------------
    "lead": Layout("lock", "name until_ms now_ms"),
    "add_deliveries": Layout("deliverer delivered_to deliveries deliveries_due",
                             "name position due_ms messages[id message]"),
}
