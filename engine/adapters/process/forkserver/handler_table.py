"""The handlers as a worker calls them: what the fork server found in them, once, before the first fork."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from engine.errors import held_by
from engine.tasks.handler_spec import HandlerSpec

ALWAYS = 1 << 62
_FIRST_RUNS = 8  # in one of them, what such a handler writes is seen before the pool has read it


class LoadedHandler:
    """One handler, ready to be called."""

    __slots__ = ("function", "measured", "parse", "settles", "spec", "takes_payload", "wants_context")

    def __init__(self, spec: HandlerSpec) -> None:
        self.spec = spec
        self.function: Callable[..., Any] = spec.function
        self.parse: Callable[[bytes], Any] = orjson.loads if spec.payload_model is None else spec.parse
        self.takes_payload, self.wants_context = spec.takes_payload, spec.wants_context
        self.measured = True  # see Meter
        self.settles = _FIRST_RUNS  # how many more runs are looked at for output that went round Python

    def may_retry(self, error: BaseException) -> bool:
        """As the spec says; what ends a process (SystemExit) only ends the run, and is a failure like any other."""
        if issubclass(type(error), Exception) or self.spec.retry_on is not None:
            return self.spec.may_retry(error)
        return not any(issubclass(type(one), self.spec.no_retry_on) for one in held_by(error))


def make_handler_table(registry: Mapping[str, HandlerSpec]) -> dict[bytes, LoadedHandler]:
    """Handlers by their names as they are written in JSON, without the quotes."""
    return {orjson.dumps(name)[1:-1]: LoadedHandler(spec) for name, spec in registry.items()}
