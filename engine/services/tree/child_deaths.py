"""Why the root's children have died. The keeper is told, and publishes it beside what it measures of them."""

import signal
import time
from collections.abc import Mapping
from typing import Any

from engine.core.tree.supervision import ChildState


class ChildDeaths:
    """The last one of each child. Moments are of the monotonic clock, which all processes of a host share."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, Any]] = {}
        self._hung: set[str] = set()

    def hangs(self, name: str) -> None:
        """It says nothing any more, and is being killed for it."""
        self._hung.add(name)

    def ended(self, name: str, code: int) -> None:
        """With exit code `code`, below 0 for a signal. An end in good order is no death."""
        was_hung = name in self._hung
        self._hung.discard(name)
        if code:
            self._last[name] = {"cause": "it hung" if was_hung else _cause(code), "at_s": time.monotonic()}

    def message(self, children: Mapping[str, ChildState]) -> dict[str, Any]:
        """For the keeper: {"children": {name: {"restarts", "last_death": {"cause", "at_s"} or None}}}."""
        return {"do": "tell of children", "children": {
            name: {"restarts": child.restarts, "last_death": self._last.get(name)} for name, child in children.items()}}


def _cause(code: int) -> str:
    if code > 0:
        return f"exited with {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
