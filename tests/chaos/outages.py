"""Each way in which Redis may be lost and come back, and how soon work goes on by itself afterwards.

Measured from the moment at which Redis is well again, in every process that matters: a pool's (a new task ends), a
keeper's (a task whose delay ended meanwhile ends), and a client's that was waiting for a result all the time.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.chaos.engine_harness import EngineHarness
from tests.chaos.storm.redis import StormyRedis

LOSSES = ("restart", "kill", "freeze", "cut_clients", "change_password", "fill", "forget_scripts", "fill_disk",
          "fill_disk_softly")
DELAY_S = 0.4


@dataclass(slots=True)
class Recovery:
    """Seconds after Redis's return."""

    submit_s: float
    delayed_s: float
    result_s: float

    @property
    def longest_s(self) -> float:
        return max(self.submit_s, self.delayed_s, self.result_s)


class Waiter:
    """A client that waits for one result in a thread of its own."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.at_s, self.error = 0.0, "it has not come back"
        self._wait = wait
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._wait()
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
        else:
            self.error = ""
        self.at_s = time.monotonic()

    def join(self) -> float:
        """The moment at which it came back with the result."""
        self._thread.join()
        assert not self.error, f"a client that waited for a result: {self.error}"
        return self.at_s


class Outages:
    """An engine, its Redis, and somebody who waits. `lose` may be called any number of times."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.redis = StormyRedis(Random(seed))
        self.harness = EngineHarness(folder / "engine", self.redis.server, self.redis.url)
        self.harness.start()

    def close(self) -> None:
        self.harness.close()
        self.redis.close()

    def why_not(self, loss: str) -> str:
        """Why this loss cannot be had here; "" where it can."""
        return "" if loss in (fault.__name__ for fault in self.redis.faults) else "; ".join(self.redis.lacks)

    def lose(self, loss: str, for_s: float) -> Recovery:
        client = self.harness.client
        held = self.harness.submit_held(timeout=0)
        held.started()
        delayed = client.submit("echo", {}, delay=DELAY_S)
        waiting = Waiter(lambda: client.result(held.id, wait=for_s + 60))
        getattr(self.redis, loss)()
        held.let_go()  # its end has to wait for Redis, and its client too
        time.sleep(for_s)
        self.redis.heal()
        back_s = time.monotonic()
        later = Waiter(lambda: client.result(delayed, wait=60))
        client.result(client.submit("echo", {}), wait=60)
        submit_s = time.monotonic() - back_s
        return Recovery(submit_s, later.join() - back_s, waiting.join() - back_s)
