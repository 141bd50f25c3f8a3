"""The handlers of another service on the same Redis: none of ours is among them."""

from typing import Any

from engine import handler


@handler("of another service")
def of_another_service(payload: Any) -> None:
    raise AssertionError("nobody submits this")
