"""How the workers of a pool come to be, and whether that is what a handler asks for.

    fork, preload       the fork server imports the handlers once; a worker is a fork of it: milliseconds, memory shared
    fork, no preload    a worker is a fork of a process that has imported nothing, and imports the handlers itself
    spawn               a worker is a fresh interpreter, and imports the handlers itself; `preload` has no meaning
"""

from collections.abc import Iterable
from dataclasses import dataclass

METHODS = ("fork", "spawn")


@dataclass(frozen=True, slots=True)
class Starting:
    method: str = "fork"
    preload: bool = True

    @property
    def imports_once(self) -> bool:
        """Whether what the imports make is made before the workers are."""
        return self.method == "fork" and self.preload

    def suits(self, method: str | None, preload: bool | None) -> bool:
        """Whether a handler that asks for this may run here; None asks for nothing."""
        return method in (None, self.method) and preload in (None, self.imports_once)


def misfit(task_type: str, method: str | None, preload: bool | None, pool: str, here: Starting,
           others: Iterable[Starting]) -> str | None:
    """What to say of a handler that may not run in this pool: None if it may, "" if it may in one of the others."""
    if here.suits(method, preload):
        return None
    if any(other.suits(method, preload) for other in others):
        return ""
    wish = f'start_method = "{method}"' if method not in (None, here.method) else f"preload = {str(preload).lower()}"
    return (f"{task_type!r} asks for {wish}, and no pool has that (pool {pool!r} has start_method = \"{here.method}\", "
            f"preload = {str(here.imports_once).lower()}): give it a pool of its own, [pools.NAME] with {wish}\n")
