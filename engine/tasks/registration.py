"""Carries the handlers of a main script into the fork server, which finds each function by its reference.

    module:qualname {options as JSON}
"""

import traceback
from collections.abc import Mapping
from typing import Any

import orjson

from engine.core.task.options import OPTIONS, OptionType
from engine.tasks.handler import register
from engine.tasks.handler_spec import REGISTRY, HandlerSpec, resolve
from engine.tasks.import_guard import MainCollected, resume_stopped

_RESUMES_MAX = 20  # modules of one package that use the engine while they are imported


def registration_line(spec: HandlerSpec) -> str:
    """Return the line from which `register_lines` registers the handler in another process."""
    return f"{spec.reference} {orjson.dumps(spec.plain_options()).decode()}"


def register_lines(lines: Mapping[str, str]) -> dict[str, str]:
    """Register handlers, and return the tracebacks of those that failed, by name.

    A handler that the import itself registers (by a decorator, or in a script that is executed again) keeps the
    options that it has there.

    Args:
        lines: by the name of the handler `module:qualname`, or what `registration_line` has returned.
    """
    failures: dict[str, str] = {}
    for name, line in lines.items():
        reference, _, text = line.partition(" ")
        try:
            function = _resolve_stopped(reference)
            if name not in REGISTRY:
                register(name, function, **_options(orjson.loads(text or "{}")))
        except Exception:  # noqa: BLE001  a user's module may raise anything; it is that handler's failure
            failures[name] = traceback.format_exc()
    return failures


def _options(plain: dict[str, Any]) -> Any:
    """The options of a line: exception classes are written as references."""
    return {name: tuple(map(_resolve_stopped, value)) if OPTIONS[name].type is OptionType.EXCEPTIONS else value
            for name, value in plain.items()}


def _resolve_stopped(reference: str) -> Any:
    """As `resolve`. A module that uses the engine while it is imported is used as far as it was executed."""
    for _ in range(_RESUMES_MAX):
        try:
            return resolve(reference)
        except MainCollected:
            resume_stopped()
    return resolve(reference)
