"""Imports the handlers, once, in the fork server. What fails is reported with its traceback; the others go on.

Modules and the main script are named by whoever starts the engine, never by who submits a task.
"""

import importlib
import importlib.util
import json
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.handler import MainCollected, register_all, set_collecting

_USES_THE_ENGINE = "A module of handlers may not use a Client, nor start a Scheduler, while it is imported.\n"
MAIN_NAME = "__mp_main__"  # as multiprocessing calls it: not "__main__", so that its `if` for that is not entered


def load(modules: Sequence[str], main: dict[str, str] | None, functions: dict[str, Any],
         imported: Callable[[str], object] = lambda name: None) -> dict[str, str]:
    """Fill the registry; return the traceback of each module, script or function that failed, by its name.

    `imported` is called with the name of each module or script when it has been tried.
    """
    failures: dict[str, str] = {}
    set_collecting(True)
    try:
        for module in modules:
            if (failure := _attempt(lambda module=module: importlib.import_module(module))) is not None:
                failures[module] = failure
            imported(module)
        if main is not None and (failure := _attempt(lambda: _run_main(main), ends=MainCollected)) is not None:
            failures[next(iter(main.values()))] = failure
        if main is not None:
            imported(next(iter(main.values())))
    finally:
        set_collecting(False)
    return failures | register_all(functions)


def _attempt(action: Any, ends: type[BaseException] | tuple[()] = ()) -> str | None:
    """The traceback of what it raised, if that is not one of `ends`."""
    try:
        action()
    except ends:
        return None
    except MainCollected:  # the rest of the module was not executed
        return traceback.format_exc() + _USES_THE_ENGINE
    except BaseException:  # noqa: BLE001  a module may call sys.exit() as well as raise
        return traceback.format_exc()
    return None


def _run_main(main: dict[str, str]) -> None:
    """Execute a main script up to where it starts the engine (MainCollected), as a module of its own.

    It is known as `__main__` too, for that is the module its functions say they are from.
    """
    module = types.ModuleType(MAIN_NAME)
    code, package, file = _code_of(main)
    module.__dict__.update(__file__=file, __package__=package)
    sys.modules[MAIN_NAME] = sys.modules["__main__"] = module
    sys.argv[:] = [file, *json.loads(main.get("argv", "[]"))]
    with _silent_stdout():
        exec(code, module.__dict__)


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """What the script prints, the real one has printed. Its stderr is left: a warning twice does no harm."""
    sys.stdout.flush()
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _code_of(main: dict[str, str]) -> tuple[types.CodeType, str | None, str]:
    if "path" in main:
        path = main["path"]
        with open(path, "rb") as file:
            return compile(file.read(), path, "exec"), None, path
    name = main["module"]
    spec = importlib.util.find_spec(name)
    code = spec.loader.get_code(name) if spec is not None and hasattr(spec.loader, "get_code") else None  # type: ignore[union-attr]
    if spec is None or code is None:
        raise ImportError(f"no code for the main module {name!r}")
    return code, name.rpartition(".")[0], str(spec.origin)
