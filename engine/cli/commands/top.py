"""`ganger top`: a screen to leave open: processes, what they run, queues; and keys to act on them.

The board says what is shown and what a key asks for; here it is done, beside the keys and the drawing, so that a Redis
that does not answer holds up neither.
"""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.live.board import Action, Board
from engine.cli.live.requests import Done, Errands
from engine.cli.output import console
from engine.cli.session import Session, command
from engine.cli.snapshot import take
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.task_id import short
from engine.errors import GangerError

if TYPE_CHECKING:
    from engine.client import Client

_STACK_S = 5.0  # for the stacks to come
_REDRAW_S = 1.0  # the clocks on the screen go on between two looks
_SIZE_OF_PIPES = (160, 200)  # columns and lines


def add_to(app: typer.Typer) -> None:
    command(app, "top", examples="ganger top\nganger top --once\nganger top --once --json")(top)


def top(
    session: Session,
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, max=60, help="Time between two looks.")] = 1.0,
) -> None:
    """Watch the processes, what they run and the queues, live.

    Keys select a worker or a queue, cancel a task, show stacks, pause and resume; ? tells which, q ends it. A
    terminal that cannot move its cursor (TERM=dumb), or a pipe, gets the screen once.
    """
    from engine.cli.live import screen

    printer = console()
    with session.client() as client:
        snapshot = take(client)
        if session.out.as_json:
            session.out.json(snapshot)
        elif once or not (sys.stdout.isatty() and sys.stdin.isatty()) or printer.is_dumb_terminal:
            columns, lines = printer.size if sys.stdout.isatty() else _SIZE_OF_PIPES
            for line in screen.overview(Board(snapshot), columns, lines):
                session.out.draw(line)
        else:
            _Watch(client, Board(snapshot), interval).go_on()


class _Watch:
    """Until q: draw, wait for a key, an answer or the next look, do what that asks for."""

    def __init__(self, client: "Client", board: Board, interval_s: float) -> None:
        self.client, self.board, self.interval_s = client, board, interval_s
        self.errands = Errands()

    def go_on(self) -> None:
        from rich.live import Live

        from engine.cli.live import screen
        from engine.cli.live.keyboard import Keyboard

        printer, look_s = console(), 0.0
        with Keyboard() as keyboard, Live(screen=True, auto_refresh=False, console=printer) as live:
            while True:
                now_s = time.monotonic()
                if now_s >= look_s and self.errands.start("look", lambda: take(self.client)):
                    look_s = now_s + self.interval_s
                columns, lines = printer.size
                live.update(screen.draw(self.board, columns, lines, now_s), refresh=True)
                for key in keyboard.wait(min(_REDRAW_S, max(0.05, look_s - now_s)), self.errands.fd):
                    action = self.board.press(key)
                    if action is not None and action.do == "quit":
                        return
                    self._begin(action)
                for done in self.errands.done():
                    self._learn(done)

    def _begin(self, action: Action | None) -> None:
        if action is not None and not self.errands.start(action.do, lambda: self._do(action)):
            self.board.note = "one after the other: the last one is still under way"

    def _do(self, action: Action) -> Any:
        """In a thread of its own. Returns what there is to say, or the page to show."""
        client = self.client
        match action.do:
            case "cancel":
                is_running = client.tasks.cancel(action.target, "cancelled in ganger top") is TaskStatus.RUNNING
                return f"{short(action.target)} is {'being stopped' if is_running else 'cancelled'}"
            case "stack":
                supervisor, _, slot = action.target.rpartition("/")
                return f"Where {action.target} is", client.workers.stacks(supervisor, int(slot), _STACK_S)
            case "pause":
                client.queues.pause(action.target)
                return f"{action.target} is paused: those that run go on"
            case _:
                client.queues.resume(action.target)
                return f"{action.target} is open"

    def _learn(self, done: Done) -> None:
        match done.value:
            case GangerError() as error if done.name == "look":
                self.board.missed(str(error), time.monotonic())
            case GangerError() as error:
                self.board.note = str(error)
            case (title, text):
                self.board.note = ""
                self.board.show(title, text)
            case str(note):
                self.board.note = note
                self.errands.start("look", lambda: take(self.client))
            case snapshot:
                self.board.saw(snapshot)
