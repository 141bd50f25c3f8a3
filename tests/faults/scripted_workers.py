"""Workers that do at once what the type of a task says, and note each run that they begin. Fulfils `ports.Host`."""

from collections import Counter, deque
from typing import Any

import orjson

from engine.core.task.record import Record
from engine.core.worker import frames
from engine.ports.host import Booted, Exited, Replied, ServerReady

VERDICTS = {"works": frames.COMPLETED, "fails": frames.FAILED, "raises": frames.RAISED}
CAUSES = {frames.COMPLETED: "returned", frames.INTERRUPTED: "cancelled"}


class ScriptedWorkers:
    """`began` counts the starts of each run. A task of the type "waits" goes on until it is interrupted; one of the
    type "raises" does so in its first run, and works in its second."""

    def __init__(self, began: Counter[tuple[str, int]]) -> None:
        self.began = began
        self.happened: list[Any] = []
        self.waiting: dict[int, deque[tuple[int, int]]] = {}  # slot -> token and run of what goes on in it

    def start(self) -> None:
        self.happened.append(ServerReady([{"name": name} for name in (*VERDICTS, "waits")], {}))

    def spawn(self, slot: int) -> None:
        self.waiting[slot] = deque()
        self.happened.append(Booted(slot, 1000 + slot))

    def send(self, slot: int, message: bytes) -> None:
        if message == frames.QUIT:
            self._exit(slot, 0, None)
            return
        _, token, run, attempts, _, task_id = frames.TASK_HEAD.unpack_from(message)
        record = Record.decode(message[frames.TASK_HEAD.size:], task_id.decode())
        self.began[task_id.decode(), run] += 1
        if record.task_type == "waits":
            self.waiting[slot].append((token, run))
        else:
            is_second = record.task_type == "raises" and attempts > 0
            self._reply(slot, token, run, frames.COMPLETED if is_second else VERDICTS[record.task_type])

    def interrupt(self, slot: int, token: int, reason: bytes) -> None:
        for known, run in list(self.waiting[slot]):
            if known == token:
                self.waiting[slot].remove((known, run))
                self._reply(slot, token, run, frames.INTERRUPTED)

    def kill(self, slot: int, why: str) -> None:
        self._exit(slot, None, "SIGKILL")

    def quit(self, slot: int) -> None:
        self._exit(slot, 0, None)

    def pid(self, slot: int) -> int | None:
        return 1000 + slot if slot in self.waiting else None

    def events(self) -> list[Any]:
        happened, self.happened = self.happened, []
        return happened

    def processes(self) -> list[tuple[int, int]]:
        return []

    def take_back(self, slot: int) -> list[bytes]:
        return []

    def stop(self) -> None: ...
    def watch(self, *args: Any) -> None: ...
    def unwatch(self, slot: int) -> None: ...
    def dump(self, slot: int) -> None: ...
    def tick(self, now_s: float) -> None: ...
    def next_deadline_s(self) -> float | None: ...

    def _exit(self, slot: int, code: int | None, signal: str | None) -> None:
        if self.waiting.pop(slot, None) is not None:
            self.happened.append(Exited(slot, 1000 + slot, code, signal, {}, None))

    def _reply(self, slot: int, token: int, run: int, verdict: bytes) -> None:
        outcome = orjson.dumps({"run": run, "cause": CAUSES.get(verdict, "raised"), "error": None, "result": None})
        self.happened.append(Replied(slot, token, verdict, 10, outcome))
