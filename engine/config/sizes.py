"""How many workers a pool has by its settings, between which numbers it may be told to be, and how they start."""

from engine.config.fields import cores
from engine.config.model import Settings
from engine.core.pool.resizing import Scale
from engine.core.worker.start_method import Starting

PER_CORE_MAX = 8  # where scale_max says nothing


def scale(settings: Settings, pool: str) -> Scale:
    most = settings.scale_max or max(PER_CORE_MAX * cores(), _asked(settings, pool))
    return Scale(settings.scale_min, max(most, settings.scale_min))


def is_auto(settings: Settings, pool: str) -> bool:
    """Whether it looks after its number of workers itself."""
    return (settings.pools[pool].scale or settings.scale) == "auto"


def workers(settings: Settings, pool: str) -> int:
    """How many it starts with."""
    asked = _asked(settings, pool)
    return scale(settings, pool).bounded(asked) if is_auto(settings, pool) else asked


def starting(settings: Settings, pool: str) -> Starting:
    """How its workers come to be."""
    wish = settings.pools[pool]
    return Starting(wish.start_method or settings.start_method,
                    settings.preload if wish.preload is None else wish.preload)


def holds_cores(settings: Settings, pool: str) -> bool:
    """Whether its workers are held to cores of their own."""
    wish = settings.pools[pool].cpu_affinity
    return settings.cpu_affinity if wish is None else wish


def _asked(settings: Settings, pool: str) -> int:
    return settings.pools[pool].max_workers or settings.max_workers
