"""What the tree is told of the script that starts it: settings, functions, and how to load the script again.

The document is JSON, on an inherited descriptor:

    {"settings": {…}, "main": {"path": …, "argv": "[…]"} | {"module": …, "argv": "[…]"} | null,
     "functions": {"my_task": "__main__:my_handler {…options}"}, "sys_path": […]}
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from engine.errors import InvalidHandler
from engine.handler import Handler, HandlerSpec, directions, resolve
from engine.signature import main_file

if TYPE_CHECKING:
    from engine.config import Settings


def document(settings: "Settings", registry: Mapping[str, HandlerSpec]) -> bytes:
    """The document for the handlers that are registered now. Raises `InvalidHandler` for one that has no way back."""
    told = settings.model_dump(mode="json")
    told["data_dir"] = str(settings.data_dir.expanduser().absolute())
    for spec in registry.values():
        _check_way_back(spec)
    functions = {name: directions(spec) for name, spec in registry.items()}
    in_main = any(line.startswith("__main__:") for line in functions.values())
    return orjson.dumps({"settings": told, "main": main_reference() if in_main else None, "functions": functions,
                         "sys_path": [os.path.abspath(entry) for entry in sys.path]})


def main_reference() -> dict[str, str] | None:
    """How another process can load the running script, or None for an interactive one.

    `argv` are its arguments as JSON text: a script may read them on its way to `start()`.
    """
    argv = json.dumps(sys.argv[1:])
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return {"module": spec.name, "argv": argv}  # python -m package.module
    file = main_file()
    return None if file is None else {"path": os.path.abspath(file), "argv": argv}


def in_descriptor(text: bytes) -> int:
    """A descriptor from which `text` can be read, however long it is."""
    descriptor = os.memfd_create("ganger-bootstrap", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(text)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _check_way_back(spec: HandlerSpec) -> None:
    """A name that leads to something else here will do so in the workers."""
    try:
        found: Any = resolve(spec.reference)
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
