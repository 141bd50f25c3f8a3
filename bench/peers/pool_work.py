"""What the pools' processes run. In a module of its own, so that each of them finds it by name."""

from typing import Any


def noop(payload: dict[str, Any]) -> None:
    """Nothing."""
