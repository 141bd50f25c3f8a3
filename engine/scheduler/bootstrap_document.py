"""What the engine is told by the script that starts it: settings, functions, and how to load the script again.

The document is JSON, on an inherited descriptor; `services/bootstrap.py` reads it:

    {"settings": {…},
     "main": {"path": …, "argv": "[…]"} or with "archive" beside it | {"module": …, "argv": "[…]"} | null,
     "functions": {"my_task": "__main__:my_handler {…options}"}, "sys_path": […]}
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from engine.errors import InvalidHandler
from engine.tasks.handler import Handler
from engine.tasks.handler_spec import HandlerSpec, resolve
from engine.tasks.registration import registration_line
from engine.tasks.signature import main_file

if TYPE_CHECKING:
    from engine.config import Settings


def bootstrap_document(settings: "Settings", registry: Mapping[str, HandlerSpec]) -> bytes:
    """Return the document for the registered handlers. Raises `InvalidHandler` for one that a worker cannot find."""
    values = settings.model_dump(mode="json")
    values["data_dir"] = str(settings.data_dir.expanduser().absolute())
    for spec in registry.values():
        _check_found(spec)
    functions = {name: registration_line(spec) for name, spec in registry.items()}
    of_main = [spec.function for spec in registry.values() if spec.reference.startswith("__main__:")]
    return orjson.dumps({"settings": values, "main": main_reference(of_main[0].__globals__) if of_main else None,
                         "functions": functions, "sys_path": [os.path.abspath(entry) for entry in sys.path]})


def main_reference(namespace: dict[str, Any]) -> dict[str, str] | None:
    """Return how another process can load the script whose globals these are, or None for an interactive session.

    `argv` are its arguments as JSON text, since a script may read them before `start()`. The script is not always the
    module `__main__`: that may be a launcher (`python -m cProfile script.py`).
    """
    argv = json.dumps(sys.argv[1:])
    if namespace is not vars(sys.modules["__main__"]) and namespace.get("__file__"):
        return {"path": os.path.abspath(namespace["__file__"]), "argv": argv}
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return {"module": spec.name, "argv": argv}  # python -m package.module
    file = main_file()
    if file is None:
        return None
    archive = getattr(getattr(spec, "loader", None), "archive", None)
    packed = {} if archive is None else {"archive": os.path.abspath(archive)}  # python app.pyz
    return {"path": os.path.abspath(file), **packed, "argv": argv}


def in_descriptor(text: bytes) -> int:
    """Return a descriptor from which `text` can be read, however long it is."""
    descriptor = os.memfd_create("ganger-bootstrap", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(text)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _find(spec: HandlerSpec) -> Any:
    """Return what the workers will find by the handler's reference."""
    function = spec.function
    if spec.reference.startswith("__main__:") and function.__qualname__ in function.__globals__:
        return function.__globals__[function.__qualname__]  # of the script, which need not be the module `__main__`
    return resolve(spec.reference)


def _check_found(spec: HandlerSpec) -> None:
    """Raise `InvalidHandler` where the handler's name leads to nothing, or to something else."""
    try:
        found: Any = _find(spec)
    except ImportError as error:
        raise InvalidHandler(f"the module of {spec.reference}, the handler {spec.name!r}, cannot be imported by that "
                             f"name: {error}", field="function", value=spec.reference,
                             limit="a module that can be imported") from error
    if isinstance(found, Handler):
        found = found.spec.function
    if found is not spec.function:
        raise InvalidHandler(
            f"{spec.reference}, the handler {spec.name!r}, is by now the name of something else ({found!r}): a worker "
            "would call that one. Give the function a name of its own.", field="function", value=spec.reference,
            limit="a name at module level that stays the function's")
