"""Imports the handlers, once, in the fork server. What fails is reported with its traceback; the others go on.

The user that starts the engine names modules and the main script. A submitted task cannot name any.
"""

import importlib
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from engine.adapters.process.forkserver import main_script
from engine.tasks.import_guard import MainCollected, resume_stopped, set_collecting, was_used
from engine.tasks.registration import register_lines

_USES_THE_ENGINE = "A module of handlers may not use a Client, nor start a Scheduler, while it is imported.\n"
_SECOND_TIME = (
    "The engine's fork server executes the main script a second time, up to its first use of the engine, to find the "
    "handlers: that failed. What may happen only once (binding a port, say) belongs below scheduler.start(), or below "
    '`if __name__ == "__main__":`\n')


def load(modules: Sequence[str], main: dict[str, str] | None, functions: dict[str, Any],
         imported: Callable[[str], object] = lambda name: None) -> dict[str, str]:
    """Fill the registry; return the traceback of each module, script or function that failed, by its name.

    `imported` is called with the name of each module or script when it has been tried.
    """
    failures: dict[str, str] = {}
    set_collecting(True)
    try:
        for module in modules:
            if (failure := _attempt(lambda name=module: importlib.import_module(name))) is not None:
                failures[module] = failure
            imported(module)
        if main is not None:
            name = next(iter(main.values()))
            if (failure := _attempt_main(main)) is not None:
                failures[name] = failure
            imported(name)
            resume_stopped()
        return failures | register_lines(functions)
    finally:
        set_collecting(False)


def _attempt(action: Any) -> str | None:
    """The traceback of what it raised."""
    try:
        action()
    except MainCollected as error:  # the rest of the module was not executed
        frames = traceback.format_tb(error.__traceback__)
        return "".join(("Traceback (most recent call last):\n", *frames, _USES_THE_ENGINE))
    except BaseException:  # noqa: BLE001  a module may call sys.exit() as well as raise
        return traceback.format_exc()
    return None


def _attempt_main(main: dict[str, str]) -> str | None:
    """The traceback of what ended the script before it came to its use of the engine.

    What comes after that is no failure: a loop or a framework of the script's may turn MainCollected into another
    exception, a group of them or sys.exit().
    """
    set_collecting(True)
    try:
        main_script.execute(main)
    except BaseException:  # noqa: BLE001  a script may call sys.exit() as well as raise
        return None if was_used() else traceback.format_exc() + _SECOND_TIME
    return None
