"""Play hundreds of worlds, each from a seed: no promise is broken in any of them."""

import secrets
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.world.__main__ import broken

ALWAYS = range(100)  # played in every run of the tests
FOR_S = 12.0  # and then new ones for so long
CHUNK = 20


@pytest.mark.timeout(180)
def test_no_world_is_broken() -> None:
    """A failure names the seeds. `python -m tests.world --seed N` plays one of them again and prints each event."""
    first = secrets.randbelow(1 << 40)
    failures: dict[int, str] = {}
    with ProcessPoolExecutor(2) as processes:
        until_s = time.monotonic() + FOR_S
        seeds = [*ALWAYS]
        while seeds and not failures:
            played = processes.map(broken, seeds, chunksize=CHUNK)
            failures.update({seed: failure for seed, failure, _ in played if failure})
            seeds = list(range(first, first + 4 * CHUNK)) if time.monotonic() < until_s else []
            first += 4 * CHUNK
    assert not failures, "\n".join(f"seed {seed}:\n{failure}" for seed, failure in failures.items())
