"""The clients of a storm: one submits, one cancels, some wait for results, one reads the events as they come."""

import threading
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

from engine import Client
from engine.core.task.event import events
from engine.core.task.lifecycle import FINAL, TaskStatus
from engine.errors import BrokerError, MoveRefused, ResultNotReady, TaskFailed

KINDS = {"quick": 60, "long": 8, "retrying": 8, "crashing": 1, "hanging": 2, "delayed": 8, "unwanted": 2,
         "idempotent": 8, "once": 6}
PRIORITIES = ("LOW", "NORMAL", "HIGH", "URGENT")
PATIENCE_S = 0.2  # until a client that was refused asks again
WAITERS = 3
WAIT_S = 90.0  # of a client for its task; that it is over may well be while Redis is away
DEAF_S = 10.0  # after its task's end a client that waits for it has to know


@dataclass(slots=True)
class Entry:
    """One task that the storm wants done. `doubts`: submits without a key that ended with an error, done or not."""

    number: int
    kind: str
    ids: list[str] = field(default_factory=list)
    doubts: int = 0
    cancel_s: float | None = None  # when
    was_cancelled: bool = False


class Load:
    """`entries` are what was asked for; `ends` counts the final events of each id, `back` are runs given back."""

    def __init__(self, url: str, chance: Random, tasks: int, for_s: float) -> None:
        self.chance, self.tasks, self.for_s = chance, tasks, for_s
        self.client = Client(redis_url=url, submit_timeout_s=2)
        self.entries: list[Entry] = []
        self.ends: dict[str, list[TaskStatus]] = {}
        self.ended_s: dict[str, float] = {}  # when the event was read
        self.back: set[tuple[str, int]] = set()
        self.refused = 0
        self.deaf: list[str] = []
        self.is_over = threading.Event()
        self.submitted = threading.Event()
        jobs = [self._submit_all, self._cancel_all, self._watch, *[self._wait_for_some] * WAITERS]
        self.failures: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(job,), daemon=True) for job in jobs]
        for thread in self.threads:
            thread.start()

    def _run(self, job: Any) -> None:
        try:
            job()
        except BaseException as error:
            self.failures.append(error)
            raise

    def close(self) -> None:
        self.is_over.set()
        for thread in self.threads:
            thread.join()
        self.client.close()

    # -- submitting -----------------------------------------------------------------------------------------------

    def _submit_all(self) -> None:
        began_s = time.monotonic()
        while len(self.entries) < self.tasks and not self.is_over.is_set():
            due = min(self.tasks, int(self.tasks * (time.monotonic() - began_s) / self.for_s))
            if len(self.entries) >= due:
                time.sleep(0.01)
            elif self.chance.random() < 0.5:
                self._submit(self._new())
            else:
                self._submit_several([self._new() for _ in range(min(20, due - len(self.entries)))])
        self.submitted.set()

    def _new(self) -> Entry:
        (kind,) = self.chance.choices(list(KINDS), list(KINDS.values()))
        entry = Entry(len(self.entries), kind)
        self.entries.append(entry)
        return entry

    def _queue(self) -> str:
        """Mostly one of two; now and then one that nobody has named before, as a hostile submitter does."""
        return self.chance.choice(["a", "b"]) if self.chance.random() < 0.95 else f"name-{len(self.entries)}"

    def _wanted(self, entry: Entry) -> dict[str, Any]:
        chance, kind = self.chance, entry.kind
        wanted: dict[str, Any] = {
            "task_type": "quick" if kind in ("delayed", "idempotent") else kind, "queue": self._queue(),
            "priority": chance.choice(PRIORITIES), "payload": {"n": entry.number, "for_s": chance.uniform(0.05, 1.0)}}
        if kind == "delayed":
            wanted["delay"] = chance.uniform(0, 5)
        if kind == "idempotent":
            wanted["idempotency_key"] = f"key {entry.number}"
        return wanted

    def _submit(self, entry: Entry) -> None:
        wanted = self._wanted(entry)
        task_type, payload = wanted.pop("task_type"), wanted.pop("payload")
        for _ in range(2 if entry.kind == "idempotent" else 1):
            self._until_told([entry], lambda: [self.client.submit(task_type, payload, **wanted)])

    def _submit_several(self, entries: list[Entry]) -> None:
        wanted = [self._wanted(entry) for entry in entries]
        self._until_told(entries, lambda: self.client.submit_many(wanted))

    def _until_told(self, entries: list[Entry], submit: Any) -> None:
        while not self.is_over.is_set():
            try:
                ids = submit()
            except BrokerError:
                self.refused += 1
                for entry in entries:
                    entry.doubts += 1
                time.sleep(PATIENCE_S)
                continue
            for entry, task_id in zip(entries, ids, strict=True):
                entry.ids.append(task_id)
                if entry.kind == "unwanted":
                    entry.cancel_s = time.monotonic() + self.chance.uniform(0, 4)
            return

    # -- the others -----------------------------------------------------------------------------------------------

    def _cancel_all(self) -> None:
        """Once for each; one that was refused is asked for again, and one that has been accepted must hold."""
        while not self.is_over.wait(0.05):
            for entry in self.entries[:]:
                if entry.cancel_s is not None and not entry.was_cancelled and entry.cancel_s <= time.monotonic():
                    self._cancel(entry)

    def _cancel(self, entry: Entry) -> None:
        try:
            self.client.cancel(entry.ids[0], "the storm does not want it")
            entry.was_cancelled = True
        except MoveRefused:
            entry.was_cancelled = True
        except BrokerError:
            entry.cancel_s = time.monotonic() + PATIENCE_S

    def _wait_for_some(self) -> None:
        """`result(wait=…)` has to hear of the end through everything that happens meanwhile."""
        chance = Random(self.chance.random())
        while not self.is_over.wait(0.05):
            wanted = [entry for entry in self.entries[-200:] if entry.ids and entry.kind != "unwanted"]
            if not wanted:
                continue
            task_id, began_s = chance.choice(wanted).ids[0], time.monotonic()
            try:
                self.client.result(task_id, wait=WAIT_S)
            except TaskFailed:
                continue
            except (ResultNotReady, BrokerError) as error:
                now_s = time.monotonic()
                has_given_up = isinstance(error, BrokerError) and now_s < began_s + WAIT_S - PATIENCE_S
                if has_given_up or now_s > self.ended_s.get(task_id, float("inf")) + DEAF_S:
                    self.deaf.append(f"{task_id}: {type(error).__name__} {error}")

    def _watch(self) -> None:
        """The stream is what history and dashboards live on: every end has to be in it, once."""
        last: Any = "0"
        while True:
            was_over = self.is_over.is_set()
            try:
                broker = self.client._provider.broker()
                told = broker.redis.call("XRANGE", broker.keys.events, f"({last}" if last != "0" else "-", "+", "COUNT",
                                         2000)
            except BrokerError:
                time.sleep(PATIENCE_S)
                continue
            for entry_id, fields in told:
                last = entry_id.decode()
                for event in events(fields[1]):
                    if event.status in FINAL:
                        self.ends.setdefault(event.id, []).append(event.status)
                        self.ended_s.setdefault(event.id, time.monotonic())
                    elif event.status is TaskStatus.QUEUED and event.run:
                        self.back.add((event.id, event.run))
            if not told:
                if was_over:
                    return
                self.is_over.wait(0.1)
