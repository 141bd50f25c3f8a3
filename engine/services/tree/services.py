"""The services that run as children of the root: how many of each there are, and how long each has to end.

A new service is one entry of `SERVICES`. Its module has `make_loop(name, bootstrap, poller, tell_root)`, which returns
the loop that `child.ChildRunner` runs.
"""

from collections.abc import Callable
from dataclasses import dataclass

from engine.config import Settings
from engine.core.tree.supervision import ChildSpec

STOP_S = 5.0  # for a child that was told to stop at once


@dataclass(frozen=True, slots=True)
class Service:
    """One kind of child.

    `shutdown_s` is how many seconds it has to end in good order. `names` lists the children of this kind by their own
    names; None stands for the only child of its kind, which has none.
    """

    kind: str
    module: str
    shutdown_s: Callable[[Settings], float]
    names: Callable[[Settings], list[str | None]] = lambda settings: [None]


SERVICES = (
    Service("keeper", "engine.services.keeper.process", lambda settings: STOP_S),
    Service("pool", "engine.services.pool.process", lambda settings: settings.shutdown_grace_s + STOP_S,
            lambda settings: list(settings.pools)),
    Service("api", "engine.services.api.process", lambda settings: 2 * STOP_S,
            lambda settings: [None] if settings.api else []),
)

MODULES = {service.kind: service.module for service in SERVICES}
_MANY = {"pool"}  # kinds whose children have names of their own


def child_specs(settings: Settings, generation: int) -> list[ChildSpec]:
    """What to start for these settings, in order. Children of a later generation have its number in their names."""
    specs = []
    for service in SERVICES:
        for own_name in service.names(settings):
            words = [service.kind, own_name, None if generation == 1 else str(generation)]
            name = " ".join(word for word in words if word is not None)
            specs.append(ChildSpec(name, shutdown_s=service.shutdown_s(settings)))
    return specs


def without_generation(name: str) -> str:
    """The name of a child without the number of its generation: what it has in common with its successor."""
    kind, _, rest = name.partition(" ")
    return f"{kind} {rest.partition(' ')[0]}" if kind in _MANY else kind
