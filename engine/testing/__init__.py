"""Help for users' own tests: an inline engine with a clock that stands still, and fixtures for pytest."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.testing.clock import FakeClock
    from engine.testing.inline import Inline

__all__ = ["FakeClock", "Inline"]


def __getattr__(name: str) -> Any:
    """Loaded late: pytest imports this package in every project that has Ganger installed."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import engine.testing.clock
    import engine.testing.inline

    return {"FakeClock": engine.testing.clock.FakeClock, "Inline": engine.testing.inline.Inline}[name]
