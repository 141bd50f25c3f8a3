"""Handlers of a module with hooks, exit functions and files; what can be seen of them is in LIFETIME_FOLDER."""

import atexit
import gzip
import logging
import os
import random
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy

from engine import handler, on_worker_start, on_worker_stop

FOLDER = Path(os.environ.get("LIFETIME_FOLDER", "/nonexistent"))
GENERATOR = numpy.random.default_rng()
state: dict[str, Any] = {}


def note(words: str) -> None:
    with open(FOLDER / "noted", "a") as file:
        file.write(f"{words} {os.getpid()}\n")


class Owned:
    """Ends with the process that made it."""


owned = Owned()
weakref.finalize(owned, note, "finalised")
atexit.register(note, "atexit of import")
early = open(FOLDER / "early", "a") if FOLDER.is_dir() else None  # noqa: SIM115
if early is not None:
    early.write("import\n")


@on_worker_start
def connect() -> None:
    if (FOLDER / "refuse").exists():
        raise ConnectionRefusedError("no database")
    if (FOLDER / "hang").exists():
        threading.Event().wait()
    print("connected")
    print("no newline", end="")
    logging.getLogger("start").warning("careful")
    state["connected"] = os.getpid()


@on_worker_start
def seed() -> None:
    state["order"] = "connected" in state


@on_worker_stop
def first_registered() -> None:
    note("stop of first")


@on_worker_stop
def second_registered() -> None:
    note("stop of second")
    if (FOLDER / "raise-at-stop").exists():
        raise RuntimeError("cannot say goodbye")
    if (FOLDER / "hang-at-stop").exists():
        time.sleep(1000)


@handler("state")
def get_state(payload: Any) -> dict[str, Any]:
    return {**state, "pid": os.getpid()}


@handler("draw")
def draw(payload: Any) -> list[float]:
    return [float(numpy.random.rand()), random.random(), float(GENERATOR.random())]


@handler("leave-behind")
def leave_behind(payload: Any) -> int:
    """What a program would write out at its end: buffers, an exit function, a thread that is still at work."""
    assert early is not None
    early.write("run\n")
    state["file"] = open(FOLDER / "rows", "w")  # noqa: SIM115
    state["file"].write("a row\n")
    state["gzip"] = gzip.open(FOLDER / "rows.gz", "wt")  # noqa: SIM115
    state["gzip"].write("a packed row\n")
    atexit.register(note, "atexit of run")
    weakref.finalize(state["gzip"], note, "finalised in run")
    threading.Thread(target=finish_late).start()
    return os.getpid()


def finish_late() -> None:
    (threading.Event()).wait(0.05)
    note("thread")
