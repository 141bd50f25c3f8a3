"""What people ask of a pool: the letters in its mailbox, JSON with `do` and what that takes.

An answer of Redis that brings letters may be lost, so they stay in the mailbox until a later step says which was the
last to be heard. Until that has arrived the answers bring them again.
"""

import logging

import orjson

from engine.core.pool.dispatch import Dispatch
from engine.ports.host import Host

LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})

log = logging.getLogger("ganger.execution")


class Mailbox:
    def __init__(self) -> None:
        self._unconfirmed: list[bytes] = []  # what the last answer brought

    @property
    def heard(self) -> bytes:
        """The letter up to which Redis may throw away."""
        return self._unconfirmed[-1] if self._unconfirmed else b""

    def new(self, letters: list[bytes]) -> list[bytes]:
        """Those that have not been heard yet. What an answer does not bring any more never comes again."""
        known, self._unconfirmed = set(self._unconfirmed), letters
        return [letter for letter in letters if letter not in known]


def obey(letter: bytes, core: Dispatch, host: Host, now_s: float) -> None:
    """Do what it says; what makes no sense is told in the log."""
    try:
        order = orjson.loads(letter)
    except ValueError:
        order = None
    match order:
        case {"do": "cancel", "id": str(task_id)}:
            core.cancel(task_id.encode(), str(order.get("reason") or "cancelled"), now_s)
        case {"do": "stack", "slot": int(slot)} if 0 <= slot < len(core.slots) and core.slots[slot].pid:
            host.dump(slot)
        case {"do": "restart", "slot": int(slot)} if 0 <= slot < len(core.slots):
            core.replace(slot, now_s, at_once=bool(order.get("at_once")))
        case {"do": "level", "level": str(level)} if level in LEVELS:
            logging.getLogger("ganger").setLevel(level)
        case _:
            log.warning("an order that cannot be obeyed", extra={"order": letter[:200].decode(errors="replace")})
