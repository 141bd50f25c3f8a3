"""`ganger stack`: where every thread of a worker is, while it goes on."""

from typing import Annotated, Any

import typer

from engine.cli.commands.workers import await_place
from engine.cli.session import Session, command
from engine.core.task.task_id import is_task_id
from engine.errors import InvalidOption, NotRunning

_STACKS_S = 5.0  # for them to come
_LIMIT = "SUPERVISOR/SLOT, POOL/SLOT, SLOT, or the id of a running task"


def add_to(app: typer.Typer) -> None:
    command(app, "stack", examples="ganger stack default/0\nganger stack 01H5RC2K8D7QZ3V0M4T")(stack)


def stack(
    session: Session,
    worker: Annotated[str, typer.Argument(metavar="WORKER", help=f"{_LIMIT}, as `ganger workers` shows them.")],
) -> None:
    """Print the Python stacks of all threads of a worker. Its run goes on.

    It works for a worker that is in C code and holds the GIL too.
    """
    with session.client() as client:
        if is_task_id(worker):
            supervisor, slot = await_place(client, worker)
        else:
            supervisor, slot = place_of(client.workers.supervisors(), worker)
        stacks = client.workers.stacks(supervisor, slot, _STACKS_S)
    if session.out.as_json:
        session.out.json({"worker": f"{supervisor}/{slot}", "supervisor": supervisor, "slot": slot, "stacks": stacks})
    else:
        session.out.line(stacks.rstrip("\n"))


def place_of(supervisors: list[dict[str, Any]], worker: str) -> tuple[str, int]:
    """The supervisor and the slot that are meant. Raises `InvalidOption`, `NotRunning`."""
    name, _, number = worker.rpartition("/")
    if not (number.isascii() and number.isdigit()):
        raise InvalidOption(f"{worker!r} is not {_LIMIT}", field="worker", value=worker, limit=_LIMIT)
    meant = [report for report in supervisors if report.get("alive") and name in (
        "", report["supervisor"], report.get("pool")) and any(
            slot.get("slot") == int(number) and slot.get("pid") for slot in report.get("slots") or [])]
    if not meant:
        raise NotRunning(f"there is no worker {worker}; ganger workers shows those that there are")
    if len(meant) > 1:
        names = ", ".join(f"{report['supervisor']}/{number}" for report in meant)
        raise InvalidOption(f"{worker} may be any of {names}", field="worker", value=worker, limit=names)
    return meant[0]["supervisor"], int(number)
