"""The ledger of a storm: what was asked for, what the runs wrote, what Redis holds at the end; and what is wrong in it.

Wrong is: a task that was accepted and is not there or never ended; one that nobody asked for; an end that its kind does
not have; two accepted ends of one task; two runs of a task at once; a run begun twice, or an at-most-once task; a
client that was not told. Every further run of a task is counted by why there was one.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from engine.adapters.redis.keeper.audit import AHEAD_MS
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.core.task.lifecycle import FINAL, TaskStatus
from engine.core.task.record import Record
from engine.core.task.state import StoredState
from tests.chaos.storm.load import Entry, Load

S = TaskStatus
ENDS = {"quick": S.COMPLETED, "long": S.COMPLETED, "retrying": S.COMPLETED, "crashing": S.FAILED, "hanging": S.TIMEOUT,
        "delayed": S.COMPLETED, "unwanted": S.CANCELLED, "idempotent": S.COMPLETED, "once": S.COMPLETED}


@dataclass(slots=True)
class Kept:
    """A task as Redis holds it at the end."""

    number: int
    state: StoredState
    causes: dict[int, str]  # by run


@dataclass(slots=True)
class Ledger:
    wrong: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    duplicates: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    set_aside: int = 0
    runs: int = 0

    @property
    def is_clean(self) -> bool:
        return not any(self.wrong.values())


def kept(broker: RedisClientBroker) -> dict[str, Kept]:
    redis, keys = broker.redis, broker.keys

    def pairs(key: str) -> dict[str, bytes]:
        flat = redis.call("HGETALL", key)
        return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}

    lives, found = pairs(keys.states), dict[str, Kept]()
    for task_id, stored in pairs(keys.tasks).items():
        number = orjson.loads(Record.decode(stored, task_id).payload)["n"]
        state = StoredState.parse(lives[task_id]) if task_id in lives else StoredState(S.QUEUED)
        found[task_id] = Kept(number, state, {})
    for of_run, outcome in pairs(keys.outcomes).items():
        task_id, _, run = of_run.partition(":")
        if task_id in found:
            found[task_id].causes[int(run)] = orjson.loads(outcome)["cause"]
    return found


def waits_for_long(state: StoredState, now_ms: int) -> bool:
    """Whether it was delayed while Redis's clock was ahead, which has been set back since: it waits for that moment."""
    return state.status is S.PENDING and state.at_ms > now_ms + AHEAD_MS


def judge(load: Load, tasks: dict[str, Kept], lines: Path, now_ms: int) -> Ledger:
    ledger = Ledger()
    by_number: defaultdict[int, list[str]] = defaultdict(list)
    for task_id, task in tasks.items():
        by_number[task.number].append(task_id)
    for entry in load.entries:
        _judge_entry(ledger, entry, by_number.pop(entry.number, []), tasks, load, now_ms)
    for number, ids in by_number.items():
        ledger.wrong["unexpected"].append(f"{number}: {ids}")
    ledger.wrong["clients not told"] += load.deaf
    ledger.wrong["clients ended"] += [repr(error) for error in load.failures]
    _judge_runs(ledger, tasks, load, {entry.number: entry.kind for entry in load.entries}, lines)
    return ledger


def _judge_entry(ledger: Ledger, entry: Entry, found: list[str], tasks: dict[str, Kept], load: Load,
                 now_ms: int) -> None:
    wrong, what = ledger.wrong, f"{entry.number} {entry.kind}"
    stalled = {task_id for task_id in found if waits_for_long(tasks[task_id].state, now_ms)}
    ledger.wrong["lost"] += [f"{what} {task_id}" for task_id in entry.ids if task_id not in tasks]
    if entry.kind == "idempotent" and len({*found, *entry.ids}) > 1:
        wrong["unexpected"].append(f"{what}: one key, {found}")
    if len(found) > len(set(entry.ids)) + entry.doubts:
        wrong["unexpected"].append(f"{what}: {found}")
    for task_id in found:
        state, causes = tasks[task_id].state, tasks[task_id].causes
        ledger.ends[f"{entry.kind} {state.status}"] += 1
        if task_id not in entry.ids:
            ledger.duplicates["tasks: a submit without a key was refused, had been heard, and was said again"] += 1
            if entry.kind == "unwanted":
                continue  # nobody knows it to cancel it
        if task_id in stalled:
            ledger.duplicates["tasks: still wait for a moment that Redis's clock, ahead then, has named"] += 1
            continue
        if state.status not in FINAL:
            wrong["lost"].append(f"{what} {task_id} never ended: {state}")
            continue
        events = load.ends.get(task_id, [])
        if len(events) != 1:
            wrong["two accepted ends" if events else "ends without an event"].append(f"{what} {task_id}: {events}")
        if "poison" in causes.values():
            ledger.set_aside += 1  # after six supervisors that were lost with it
        elif state.status is not ENDS[entry.kind] and not (
                entry.kind == "once" and state.status is S.FAILED and state.run <= 1):
            wrong["unexpected"].append(f"{what} {task_id} ended as {state} with {causes}")


def _judge_runs(ledger: Ledger, tasks: dict[str, Kept], load: Load, kinds: dict[int, str], lines: Path) -> None:
    last: dict[str, int] = {}
    begun: defaultdict[str, list[int]] = defaultdict(list)
    for line in lines.read_text().splitlines():
        letter, task_id, run = line.split(" ")[0], line.split(" ")[1], int(line.split(" ")[2])
        if letter == "B":
            ledger.runs += 1
            if run <= last.get(task_id, 0):
                ledger.wrong["begun twice"].append(line)
            last[task_id] = run
            begun[task_id].append(run)
        elif run < last.get(task_id, 0):
            ledger.wrong["overlap"].append(f"{line} after run {last[task_id]} had begun")
    for task_id, runs in begun.items():
        task = tasks.get(task_id)
        if task is None:
            ledger.wrong["unexpected"].append(f"{task_id} ran, and is not there")
            continue
        if kinds.get(task.number) == "once" and len(runs) > 1:
            ledger.wrong["at most once"].append(f"{task_id} ran as {runs}")
        for run in runs[:-1]:
            why = _why(task, task_id, run, load.back)
            if why is None:
                ledger.wrong["unexplained"].append(f"{task_id} run {run} of {runs}: {task.causes}")
            elif why != "raised":
                ledger.duplicates[f"runs: {why}"] += 1


def _why(task: Kept, task_id: str, run: int, back: set[tuple[str, int]]) -> str | None:
    """Why there was a run after this one."""
    if run in task.causes:
        return task.causes[run]
    return "given back by its supervisor" if (task_id, run) in back else None


def report(ledger: Ledger) -> list[str]:
    rows = [f"  {what:32} {count:6}" for what, count in sorted(ledger.ends.items())]
    rows += [f"  {what:32} {count:6}" for what, count in sorted(ledger.duplicates.items())]
    named = ("lost", "unexpected", "two accepted ends", "ends without an event", "overlap", "begun twice",
             "at most once", "unexplained", "clients not told", "clients ended", "left to mend")
    rows += [f"{what:34} {len(ledger.wrong[what]):6}" for what in named]
    rows += [f"! {what}: {one}" for what, all_of in ledger.wrong.items() for one in all_of[:20]]
    return rows


