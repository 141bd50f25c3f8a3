"""What people ask of a pool: the commands in its queue in Redis, JSON with `do` and the fields that it takes.

An answer of Redis that brings commands may be lost. So they stay in the queue until a later step names the last one
that has arrived; until then every answer brings them again.
"""

import logging
from collections.abc import Mapping

import orjson

from engine.core.pool.dispatch import Dispatch
from engine.ports.host import Host
from engine.ports.supervisor_broker import Stepped
from engine.services.pool.registry import EventHandler, Kind, Part
from engine.services.pool.step_pipeline import StepPipeline

LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})

log = logging.getLogger("ganger.execution")


class CommandQueue(Part):
    """Carries each command out once."""

    def __init__(self, core: Dispatch, host: Host, pipeline: StepPipeline) -> None:
        self.core, self.host, self.pipeline = core, host, pipeline
        self._unconfirmed: list[bytes] = []  # what the last answer brought

    def handles(self) -> Mapping[Kind, EventHandler]:
        return {Stepped: self.stepped}

    @property
    def last_command(self) -> bytes:
        """Redis may remove the commands up to this one; empty if there is none."""
        return self._unconfirmed[-1] if self._unconfirmed else b""

    def stepped(self, event: Stepped, now_s: float) -> None:
        """Carry out the commands that are new. A command that an answer does not bring any more never comes again."""
        if not event.commands and not self._unconfirmed:
            return
        known, self._unconfirmed = set(self._unconfirmed), event.commands
        for command in event.commands:
            if command not in known:
                self._obey(command, now_s)
                self.pipeline.wake(is_due=True)  # the next step removes it, and brings those behind it

    def _obey(self, command: bytes, now_s: float) -> None:
        core = self.core
        try:
            parsed = orjson.loads(command)
        except ValueError:
            parsed = None
        match parsed:
            case {"do": "cancel", "id": str(task_id)}:
                core.cancel(task_id.encode(), str(parsed.get("reason") or "cancelled"), now_s)
            case {"do": "stack", "slot": int(slot)} if 0 <= slot < len(core.slots) and core.slots[slot].pid:
                self.host.dump(slot)
            case {"do": "restart", "slot": int(slot)} if 0 <= slot < len(core.slots):
                core.replace(slot, now_s, at_once=bool(parsed.get("at_once")))
            case {"do": "level", "level": str(level)} if level in LEVELS:
                logging.getLogger("ganger").setLevel(level)
            case _:
                log.warning("a command that makes no sense is ignored",
                            extra={"command": command[:200].decode(errors="replace")})
