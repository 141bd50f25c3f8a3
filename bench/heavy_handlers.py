"""A handler module with a large import, as most have."""

from typing import Any

import numpy

from engine import handler


@handler("total", queue="bench", timeout=60)
def total(payload: dict[str, Any]) -> float:
    """The sum of some numbers."""
    return float(numpy.asarray(payload["numbers"], dtype=float).sum())
