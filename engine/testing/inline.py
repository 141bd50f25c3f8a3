"""The engine in one process, for tests: tasks run where they are submitted, and time passes when the test says so.

    def test_a_cover_is_made():
        with Inline() as ganger:
            task_id = order_cover(book)          # calls thumbnail.submit(…)
            assert ganger.result(task_id) == {"width": 640}

    def test_it_is_tried_again():
        with Inline() as ganger:
            task_id = ganger.submit("fetch", {"url": "…"})
            assert ganger.status(task_id) == "RETRYING"
            ganger.advance(1)
            assert ganger.status(task_id) == "COMPLETED"

The checks at submit, the reading of payloads, the outcomes and the retries are the engine's own code. What Redis does
is done by the reference model (`engine/testing/model`), which a test compares with the scripts. There are no
processes: a handler that hangs hangs the test, and one that ends its process ends the test. A handler that moves the
clock past its timeout has timed out.
"""

from collections import ChainMap
from collections.abc import Callable
from typing import Any, NoReturn, Unpack

from engine.client import Client, set_default_client
from engine.client.client import settings_for
from engine.client.submission import HandlerDirectory
from engine.config import Settings
from engine.tasks.handler import make_spec
from engine.tasks.handler_spec import REGISTRY, HandlerSpec
from engine.tasks.options import HandlerOptions
from engine.testing.broker import InlineBroker
from engine.testing.clock import FakeClock
from engine.testing.engine import InlineEngine


class Inline(Client):
    """A Client with an engine in it. As a context manager it is also what `my_handler.submit(…)` uses."""

    def __init__(self, *, eager: bool = True, chance: float = 0.0, clock: FakeClock | None = None,
                 settings: Settings | None = None, **overrides: Any) -> None:
        """Make an engine without handlers of its own; it runs all that are registered in this process.

        Args:
            eager: run tasks as soon as they are submitted; else when `run()` is called or a caller waits for a result.
            chance: what the jitter of retries gets instead of a random number, 0 to 1; 0 is the full pause.
            clock: the clock to use, to share one between engines.
            settings: all settings, in place of the configuration file and the environment.
            **overrides: settings by name, as for `Client`.

        Raises:
            InvalidSetting: for a wrong setting.
        """
        settings = settings_for(settings, **overrides)
        self.clock = clock or FakeClock()
        self._local: dict[str, HandlerSpec] = {}
        handlers = ChainMap(self._local, REGISTRY)
        self._inline = InlineEngine(settings, self.clock, handlers, lambda: chance, eager)
        super().__init__(settings=settings, provider=InlineBrokerProvider(self._inline),
                         directory=HandlerDirectory(dict, handlers, complete=True))
        self._before: list[Any] = []

    def register_handler(self, task_type: str, function: Callable[..., Any],
                         **options: Unpack[HandlerOptions]) -> HandlerSpec:
        """Register a function for this engine only; it may be a lambda or a closure here.

        Args:
            task_type: the name under which tasks are submitted.
            function: takes the payload, and a `Context` if it wants one.
            **options: as for `@handler`.

        Raises:
            InvalidHandler: for a function or an option that is not acceptable.
        """
        spec = self._local[task_type] = make_spec(task_type, function, options, local=True)
        return spec

    def advance(self, seconds: float) -> None:
        """Move the clock by so many seconds: delayed tasks and retries run, each at its moment, and others expire."""
        self._inline.advance(seconds)

    def run(self) -> int:
        """Run everything that can run now. Returns how many runs that took."""
        return self._inline.run_due()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Inline engine is part of this process, and cannot be pickled or copied")

    def __enter__(self) -> "Inline":
        self._before.append(set_default_client(self))
        return self

    def __exit__(self, *raised: object) -> None:
        set_default_client(self._before.pop())
        self.close()


class InlineBrokerProvider:
    """Gives the broker of an inline engine; waiting moves the engine's clock."""

    def __init__(self, inline: InlineEngine) -> None:
        self._inline, self._broker = inline, InlineBroker(inline)

    def broker(self) -> InlineBroker:
        return self._broker

    def now_ms(self) -> int:
        return self._inline.clock.now_ms()

    def now_s(self) -> float:
        return self._inline.clock.now_ms() / 1000

    def sleep(self, seconds: float) -> None:
        self._inline.advance(seconds)

    def close(self) -> None:
        """There is nothing to close."""
