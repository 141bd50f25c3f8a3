"""What `ganger top` shows at this moment, and what each key does about it. Knows neither terminal nor Redis."""

from dataclasses import dataclass, replace
from typing import Literal

from engine.cli.live.processes import Row, rows
from engine.cli.snapshot import Snapshot
from engine.core.task.task_id import short

SIDEWAYS = 20  # columns that a key moves a page by
HELP = """\
up, down   select a worker
c          cancel the task that it runs; asks first
s          show where every thread of it is; it goes on unharmed
tab        select a queue
p          pause the queue, or resume it
?          this page, and back
q          quit; ctrl-C does too

CPU is a share of one core, so more than 100 % is a worker with threads or
processes of its own; these are counted with it (+2: it has started two).
The bars of memory compare the processes with the largest of them.
A frozen run is suspended for an urgent one; its time does not count.
A task's times are: running for, and of how long it may at most."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do: `cancel` a task, `stack` a worker, `pause` or `resume` a queue, `quit`."""

    do: Literal["cancel", "stack", "pause", "resume", "quit"]
    target: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Text before the rest, from line `first` and column `left` on."""

    title: str
    lines: list[str]
    first: int = 0
    left: int = 0


class Board:
    """`saw` and `missed` tell it of looks at Redis, `press` of keys."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.before: Snapshot | None = None  # to count the rates from
        self.rows: list[Row] = rows(snapshot)
        self.worker: str | None = None  # which is selected
        self.queue: str | None = None
        self.question: tuple[str, Action] | None = None
        self.page: Page | None = None
        self.note = ""
        self.trouble = ""  # why Redis could not be asked
        self.away_s: float | None = None  # since when
        self._keep_selection()

    def saw(self, snapshot: Snapshot) -> None:
        self.before = None if self.trouble else self.snapshot
        self.snapshot, self.rows, self.trouble, self.away_s = snapshot, rows(snapshot), "", None
        self._keep_selection()

    def missed(self, reason: str, now_s: float) -> None:
        """Redis did not answer: what was seen last stays."""
        self.before, self.trouble = None, reason
        self.away_s = now_s if self.away_s is None else self.away_s

    def show(self, title: str, text: str) -> None:
        self.page = Page(title, text.splitlines())

    @property
    def selected(self) -> Row | None:
        return next((row for row in self.rows if row.worker is not None and row.worker == self.worker), None)

    def press(self, key: str) -> Action | None:
        """What a key asks for, once it is sure."""
        self.note = ""
        if key == "quit":
            return Action("quit")
        if self.question is not None:
            (_, action), self.question = self.question, None
            if key in ("y", "Y"):
                return action
            self.note = "nothing was done"
        elif self.page is not None:
            self._turn_page(self.page, key)
        else:
            return self._on_tree(key)
        return None

    def _on_tree(self, key: str) -> Action | None:
        match key:
            case "up" | "down":
                self._move(-1 if key == "up" else 1)
            case "tab" | "backtab":
                self._next_queue(1 if key == "tab" else -1)
            case "c":
                self._ask_to_cancel()
            case "s" if self.selected is not None and self.selected.pid:
                self.note = "asking the worker where it is …"
                return Action("stack", self.selected.worker or "")
            case "p":
                return self._pause_or_resume()
            case "?":
                self.show("Keys, and what the columns say", HELP)
        return None

    def _ask_to_cancel(self) -> None:
        task = self.selected.task if self.selected is not None else {}
        if task:
            self.question = (f"Cancel {task.get('task_type')} {short(str(task.get('id')))}? y/n",
                             Action("cancel", str(task.get("id"))))
        else:
            self.note = "this worker runs nothing that could be cancelled"

    def _pause_or_resume(self) -> Action | None:
        queue = next((queue for queue in self.snapshot.queues if queue.queue == self.queue), None)
        return None if queue is None else Action("resume" if queue.paused else "pause", queue.queue)

    def _turn_page(self, page: Page, key: str) -> None:
        steps = {"up": -1, "down": 1, "page up": -10, "page down": 10, " ": 10}
        if key in steps:
            first = min(max(0, page.first + steps[key]), max(0, len(page.lines) - 1))
            self.page = replace(page, first=first)
        elif key in ("left", "right"):
            widest = max(map(len, page.lines), default=0)
            left = page.left + (SIDEWAYS if key == "right" else -SIDEWAYS)
            self.page = replace(page, left=min(max(0, left), max(0, widest - SIDEWAYS)))
        else:
            self.page = None

    def _move(self, by: int) -> None:
        workers = [row.worker for row in self.rows if row.worker is not None]
        if workers:
            at = workers.index(self.worker) if self.worker in workers else 0
            self.worker = workers[min(max(0, at + by), len(workers) - 1)]

    def _next_queue(self, by: int) -> None:
        queues = [queue.queue for queue in self.snapshot.queues]
        if queues:
            at = queues.index(self.queue) if self.queue in queues else -1
            self.queue = queues[(at + by) % len(queues)]

    def _keep_selection(self) -> None:
        """What is gone is not selected; something always is."""
        workers = [row.worker for row in self.rows if row.worker is not None]
        queues = [queue.queue for queue in self.snapshot.queues]
        if self.worker not in workers:
            self.worker = workers[0] if workers else None
        if self.queue not in queues:
            self.queue = queues[0] if queues else None
