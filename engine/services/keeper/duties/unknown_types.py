"""The duty that says in the log which tasks wait for a pool that nobody has started."""

import logging
from collections.abc import Callable
from typing import ClassVar

from engine.core.task.names import types_in_words
from engine.errors import BrokerError
from engine.services.keeper.duties.duty import Duty

errors = logging.getLogger("ganger.errors")


class UnknownTypes(Duty):
    """Once a minute.

    Args:
        count: gives the number of waiting tasks of each type that no living pool knows.
    """

    name: ClassVar[str] = "unknown types"
    period_s: ClassVar[float] = 60.0

    def __init__(self, count: Callable[[], dict[str, int]], monotonic_s: Callable[[], float]) -> None:
        super().__init__(monotonic_s)
        self._count = count

    def run(self) -> bool:
        """Ask Redis. Raises nothing: the rounds deal with a Redis that is away."""
        self._due_s = self._monotonic_s() + self.period_s
        try:
            if unknown := self._count():
                errors.warning("tasks wait whose types no living pool knows", extra={"types": types_in_words(unknown)})
        except BrokerError:
            errors.debug("nobody knows which types wait: Redis is away")
        return False
