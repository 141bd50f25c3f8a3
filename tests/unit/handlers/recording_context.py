"""A stand-in for a Context, for calling handlers as plain functions."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Ctx:
    """What the ready-made handlers use of a Context; `at_report` is called with the count of reports and may raise."""

    reports: list[tuple[float, str]] = field(default_factory=list)
    at_report: Callable[[int], None] = lambda number: None
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("tests.handlers"))
    run: int = 1
    attempt: int = 1

    def progress(self, fraction: float, message: str = "") -> None:
        assert 0 <= fraction <= 1
        assert not self.reports or fraction >= self.reports[-1][0]
        self.reports.append((fraction, message))
        self.at_report(len(self.reports))
