"""The main script of a Scheduler, executed again where its functions are needed: up to its first use of the engine.

In the fork server, and in the processes that a handler starts through multiprocessing by "spawn" or "forkserver". Those
would execute the script themselves, to its end: they get `main_of_children` as the main module instead.
"""

import importlib.util
import json
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from typing import Any
from zipimport import zipimporter

from engine.tasks.handler import Handler
from engine.tasks.import_guard import main_ends_with_its_threads, set_collecting, was_used

MAIN_NAME = "__mp_main__"  # as multiprocessing calls it: not "__main__", so that its `if` for that is not entered
_VARIABLE = "_GANGER_MAIN"  # tells children of workers which script it is
_CHILDREN_EXECUTE = "engine.adapters.process.forkserver.main_of_children"


def execute(main: dict[str, str]) -> types.ModuleType:
    """Execute a main script, as a module of its own. Raises what it raises: MainCollected at its use of the engine.

    `main` is {"path": …}, {"path": …, "archive": …} or {"module": …}, with "argv". The module is known as `__main__`
    too, for that is the module its functions say they are from.
    """
    module = types.ModuleType(MAIN_NAME)
    code, package, file = _code_of(main)
    module.__dict__.update(__file__=file, __package__=package)
    os.environ[_VARIABLE] = json.dumps(main)
    sys.modules[MAIN_NAME] = sys.modules["__main__"] = module
    sys.argv[:] = [file, *json.loads(main.get("argv", "[]"))]
    try:
        with _silent_stdout(), main_ends_with_its_threads():
            exec(code, module.__dict__)
    finally:
        _rename(module)
    return module


def execute_in_child() -> dict[str, Any]:
    """What a child of multiprocessing is to have in its main module."""
    set_collecting(True)
    try:
        execute(json.loads(os.environ[_VARIABLE]))
    except BaseException:
        if not was_used():
            raise
    finally:
        set_collecting(False)
    return {name: value for name, value in vars(sys.modules[MAIN_NAME]).items()
            if name not in ("__name__", "__spec__", "__loader__", "__builtins__")}


def _rename(module: types.ModuleType) -> None:
    """Call it `__main__` from here on: its guard has been passed, and picklers look for that name."""
    module.__dict__.update(__name__="__main__", __spec__=ModuleSpec(_CHILDREN_EXECUTE, None))
    todo: list[Any] = list(vars(module).values())
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        with suppress(Exception):  # an object may do anything when it is asked for an attribute
            if isinstance(one, types.FunctionType | type) and one.__module__ == MAIN_NAME and id(one) not in seen:
                seen.add(id(one))
                todo.extend(vars(one).values())  # methods and inner classes; of a function, what it wraps
                one.__module__ = "__main__"
            elif isinstance(one, property):
                todo.extend((one.fget, one.fset, one.fdel))
            elif isinstance(one, classmethod | staticmethod | Handler):
                todo.append(one.__wrapped__)  # type: ignore[union-attr, unused-ignore]


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
        if "archive" in main:
            return zipimporter(main["archive"]).get_code("__main__"), "", path
        with open(path, "rb") as file:
            return compile(file.read(), path, "exec"), None, path
    name = main["module"]
    spec = importlib.util.find_spec(name)
    code = spec.loader.get_code(name) if spec is not None and hasattr(spec.loader, "get_code") else None  # type: ignore[union-attr]
    if spec is None or code is None:
        raise ImportError(f"no code for the main module {name!r}")
    return code, name.rpartition(".")[0], str(spec.origin)
